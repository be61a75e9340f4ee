"""``ray-hixl doctor --npu`` over the FAKE CANN: it says FAKE, finds what is there, and tells what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import FAKE_LIBRARIES, run_cli


def examine(environment: dict[str, str], code: int = 0) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """The report as JSON, and its findings by name."""
    report: dict[str, Any] = json.loads(run_cli("doctor", "--npu", "--json", environment=environment, code=code))
    return report, {finding["name"]: finding for finding in report["findings"]}


def test_text_says_fake_everywhere() -> None:
    text = run_cli("doctor", "--npu")
    headings = [line for line in text.splitlines() if line.startswith(("NPU: ", "FAKE CANN, NO NPU: "))]
    assert len(headings) >= 6
    assert all(line.startswith("FAKE CANN, NO NPU: ") for line in headings)
    assert "FAKE: the CANN of ray-hixl's tests, no NPU" in text
    assert "All of this is FAKE" in text


def test_findings() -> None:
    report, found = examine({"HCCL_INTRA_ROCE_ENABLE": "1"})
    assert report["fake"]
    assert report["ready"]
    assert report["versions"]["torch-npu"] == "2.13.0"
    assert report["environment"]["HCCL_INTRA_ROCE_ENABLE"] == "1"
    assert "FAKE 9.2.0" in found["libcann_hixl.so"]["found"]
    for name in ("runtime", "engine", "devices", "chip", "import", "deleter", "HIXL", "slab's alignment", "torch"):
        assert found[name]["verdict"] == "works", found[name]
    assert "HCCL_INTRA_ROCE_ENABLE=1" in found["shared with peers"]["found"]
    assert "2 visible here" in found["devices"]["found"]


@pytest.mark.long
def test_an_old_cann_and_its_limits() -> None:
    """The library of CANN 8.5 on an Ascend910, whose NICs nobody has configured."""
    old = {"RAY_HIXL_CANN_PATH": f"{FAKE_LIBRARIES}:{FAKE_LIBRARIES}/hixl85", "LD_LIBRARY_PATH": str(FAKE_LIBRARIES)}
    absent = old | {"FAKE_CANN_SOC": "Ascend910B3", "FAKE_HIXL_HCCN_CONF": "/nonexistent/hccn.conf"}
    report, found = examine(absent, code=1)
    assert report["fake"]
    assert not report["ready"]
    assert found["engine"]["verdict"] == "warning"
    assert "at most 512 links" in found["engine"]["found"]
    assert found["chip"]["found"].endswith("A2")
    assert found["/nonexistent/hccn.conf"]["verdict"] == "missing"
    assert "no device ip" in found["HIXL"]["found"]


def test_the_runtime_alone() -> None:
    """Without HIXL: what is missing, and what happens until it is there."""
    report, found = examine({"RAY_HIXL_CANN_PATH": str(FAKE_LIBRARIES), "LD_LIBRARY_PATH": str(FAKE_LIBRARIES)}, code=1)
    assert not report["ready"]
    assert found["runtime"]["verdict"] == "works"
    for name in ("libcann_hixl.so", "HIXL"):
        assert found[name]["verdict"] == "missing", found[name]
        assert "cannot load libcann_hixl.so" in found[name]["found"]
        assert "staged through the host" in found[name]["remedy"]
    assert "two processes on one NPU" not in found


@pytest.mark.long
def test_addresses_of_nics(tmp_path: Path) -> None:
    conf = tmp_path / "hccn.conf"
    conf.write_text("address_0=192.168.100.10\nnetmask_0=255.255.255.0\naddress_1=192.168.100.11\n")
    _, found = examine({"FAKE_CANN_SOC": "Ascend910_9382", "FAKE_HIXL_HCCN_CONF": str(conf)})
    assert found[str(conf)] == {
        "topic": "devices' network",
        "name": str(conf),
        "verdict": "works",
        "found": "0: 192.168.100.10, 1: 192.168.100.11",
        "remedy": "",
    }
    assert found["HIXL"]["verdict"] == "works"


@pytest.mark.long
def test_hints_from_the_field() -> None:
    """What to do is in each finding: memory, ports, variables of others, and NPUs that processes share."""
    given = {
        "FAKE_CANN_SOC": "Ascend910B3",
        "HCCL_INTRA_ROCE_ENABLE": "0",
        "ASCEND_BUFFER_POOL": "4:8",
        "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
        "PER_STREAM_QUEUE": "1",
        "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "1",
        "RAY_HIXL_HIXL_PORTS": "16000-24000",
        "RAY_HIXL_SLAB_CAP_BYTES": "60000000000",
    }
    _, found = examine(given)
    remedies = {
        "two processes on one NPU": ("warning", "HCCL_INTRA_ROCE_ENABLE=1"),
        "ASCEND_BUFFER_POOL": ("warning", "ASCEND_BUFFER_POOL=0:0"),
        "torch's allocator": ("warning", "multiple of 2 MiB"),
        "torch's queues": ("warning", "unset it"),
        "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": ("works", "RAY_HIXL_LANDING_DEVICE"),
        "HCCL's ports": ("warning", "RAY_HIXL_HIXL_PORTS"),
        "Ray's ports": ("warning", "RAY_HIXL_HIXL_PORTS"),
        "HBM of npu:0": ("warning", "RAY_HIXL_SLAB_CAP_BYTES"),
        "slab_cap_bytes": ("warning", "RAY_HIXL_SLAB_CAP_BYTES"),
    }
    assert {name: found[name]["verdict"] for name in remedies} == {name: verdict for name, (verdict, _) in remedies.items()}
    assert [name for name, (_, remedy) in remedies.items() if remedy not in found[name]["remedy"]] == []


@pytest.mark.long
def test_processes_can_share_an_npu_over_roce() -> None:
    _, found = examine({"FAKE_CANN_SOC": "Ascend910B3", "HCCL_INTRA_ROCE_ENABLE": "1"})
    assert found["two processes on one NPU"]["found"] == "they link over RoCE"
    assert found["HBM of npu:0"]["verdict"] == "works"


@pytest.mark.long
@pytest.mark.parametrize("variable", ["ASCEND_RT_VISIBLE_DEVICES"])
def test_devices_by_their_numbers(variable: str) -> None:
    _, found = examine({variable: "1"})
    assert found["devices"]["found"] == "1 visible here (npu:0 is 1 for npu-smi)"
    assert found[variable]["verdict"] == "works"


def test_fake_libraries_are_refused_unless_a_test_allows_them() -> None:
    report, found = examine({"RAY_HIXL_ALLOW_FAKE_CANN": "0"}, code=1)
    assert not report["ready"]
    assert "is the FAKE CANN of ray-hixl's tests" in found["CANN"]["found"]
