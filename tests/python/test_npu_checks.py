"""``ray-hixl doctor --npu`` and ``bringup`` where there is no NPU, and their checks on machines made up of a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from machines import A2, NO_CANN, by_name, machine, write
from ray_hixl import Options
from ray_hixl.cli.npu import checks, facts, use_checks
from ray_hixl.cli.npu.cann import Cann
from ray_hixl.cli.npu.helper import Helper, HelperError
from ray_hixl.cli.npu.machine import run_tool
from ray_hixl.findings import Finding, count, is_ready
from support import eventually


@pytest.mark.parametrize(
    ("text", "devices", "wrong"),
    [
        ("0,1,2", [0, 1, 2], ""),
        ("7", [7], ""),
        ("0, 1", [0], "entry ' 1' has a blank in it"),
        ("0,x", [0], "entry 'x' is no number"),
        ("0,-1", [0], "entry '-1' is no number"),
        ("2,1", [2], "is not larger than the one before"),
        ("1,1", [1], "is not larger than the one before"),
        ("0,", [0], "entry '' is no number"),
    ],
)
def test_visible_devices(text: str, devices: list[int], wrong: str) -> None:
    found, said = facts.visible_devices(text)
    assert found == devices
    assert (wrong in said) if wrong else said == ""


def test_families_of_chips() -> None:
    names = {"Ascend910B3": "A2", "Ascend910_9382": "A3", "Ascend950PR_9599": "950", "Ascend310P3": "", "unknown": ""}
    assert {name: facts.family(name) for name in names} == names


def test_patience_of_nics() -> None:
    assert facts.nic_patience("", "") == pytest.approx(30.06, abs=0.01)
    assert facts.nic_patience("17", "7") == pytest.approx(3.76, abs=0.01)
    assert facts.nic_patience("21", "") is None
    assert facts.nic_patience("", "0") is None
    assert facts.nic_patience("x", "") is None


def test_version_texts() -> None:
    assert facts.version_of("Version=25.5.0\npackage=driver\n") == "25.5.0"
    assert facts.version_of("version = 9.1.0") == "9.1.0"
    assert facts.version_of("something else\n") == "something else"
    assert facts.version_of("") == ""
    assert facts.hccn_addresses("address_0=10.0.0.1\nnetmask_0=255.0.0.0\n#address_1=x\naddress_7= 10.0.0.8\n") == {
        0: "10.0.0.1",
        7: "10.0.0.8",
    }


def test_libraries() -> None:
    assert [finding.verdict for finding in checks.check_libraries(A2)] == ["works"] * 3
    without = replace(A2, hixl="", no_hixl="cannot load libcann_hixl.so", client_server=False)
    assert [finding.verdict for finding in checks.check_libraries(without)] == ["works", "missing"]
    assert "staged through the host" in checks.check_libraries(without)[1].remedy
    assert checks.check_libraries(NO_CANN)[0] == Finding("libraries", "CANN", "missing", "cannot load libacl_rt.so")
    old = by_name(checks.check_libraries(Cann(soc="Ascend910B3", version="8.5.0")))
    assert old["engine"].verdict == "warning"
    assert "two processes cannot share an NPU" in old["engine"].found


def test_a_complete_installation(tmp_path: Path) -> None:
    kernels = "/cann/opp/built-in/op_impl/aicpu"
    write(tmp_path, "/usr/local/Ascend/driver/version.info", "Version=25.5.0\n")
    write(tmp_path, "/cann/share/info/hixl/version.info", "Version=9.1.0\n")
    write(tmp_path, f"{kernels}/kernel/cann-hixl-compat.tar.gz")
    write(tmp_path, f"{kernels}/config/libcann_hixl_kernel.json", "{}")
    found = checks.check_installation(machine(tmp_path, ASCEND_HOME_PATH="/cann"), A2)
    assert is_ready(found)
    assert {finding.verdict for finding in found} == {"works"}
    assert "25.5.0" in by_name(found)["driver version"].found


def test_an_installation_with_holes(tmp_path: Path) -> None:
    found = by_name(checks.check_installation(machine(tmp_path), A2))
    assert found["ASCEND_HOME_PATH"].verdict == "missing"
    assert "set_env.sh" in found["ASCEND_HOME_PATH"].remedy
    assert found["driver version"].verdict == "warning"
    write(tmp_path, "/cann/file")
    found = by_name(checks.check_installation(machine(tmp_path, ASCEND_HOME_PATH="/cann", LD_LIBRARY_PATH="/a:/cann/devlib"), A2))
    assert found["AICPU archive"].verdict == "missing"
    assert found["LD_LIBRARY_PATH"].verdict == "warning"


def test_devices_of_a_container(tmp_path: Path) -> None:
    write(tmp_path, "/.dockerenv")
    found = by_name(checks.check_devices(machine(tmp_path), A2))
    assert found["/dev/davinci*"].verdict == "missing"
    assert "--device" in found["/dev/davinci*"].remedy
    write(tmp_path, "/dev/davinci4")
    write(tmp_path, "/dev/davinci_manager")
    found = by_name(checks.check_devices(machine(tmp_path, ASCEND_RT_VISIBLE_DEVICES="4, 5"), A2))
    assert found["/dev/davinci*"].found == "davinci4"
    assert "/dev/devmm_svm, /dev/hisi_hdc" in found["device nodes"].found
    assert found["ASCEND_RT_VISIBLE_DEVICES"].verdict == "warning"
    assert found["devices"].found == "2 visible here (npu:0 is 4, npu:1 is 5 for npu-smi)"
    assert found["chip"].found == "Ascend910B3: A2"
    found = by_name(checks.check_devices(machine(tmp_path, ASCEND_RT_VISIBLE_DEVICES="4,5,6"), A2))
    assert found["ASCEND_RT_VISIBLE_DEVICES"].verdict == "warning"
    assert "3 device(s), of which CANN sees 2" in found["ASCEND_RT_VISIBLE_DEVICES"].found
    found = by_name(checks.check_devices(machine(tmp_path, ASCEND_RT_VISIBLE_DEVICES="4,5"), A2))
    assert found["ASCEND_RT_VISIBLE_DEVICES"].verdict == "works"


def test_network_by_files_and_tools(tmp_path: Path) -> None:
    write(tmp_path, "/etc/hccn.conf", "address_4=10.0.0.4\naddress_5=10.0.0.5\n")
    tools = {"npu-smi info": (True, "health OK")}
    for device in (4, 5):
        tools[f"hccn_tool -i {device} -link -g"] = (True, "link status: UP" if device == 4 else "link status: DOWN")
        tools[f"hccn_tool -i {device} -ip -g"] = (True, f"ipaddr:10.0.0.{device}")
        tools[f"hccn_tool -i {device} -tls -g"] = (False, "permission denied")
    found = by_name(checks.check_network(machine(tmp_path, tools), A2))
    assert found["/etc/hccn.conf"].found == "4: 10.0.0.4, 5: 10.0.0.5"
    assert found["npu-smi info"].found == "health OK"
    assert found["hccn_tool -i 4 -link -g"].verdict == "works"
    assert found["hccn_tool -i 5 -link -g"].verdict == "warning"
    assert found["hccn_tool -i 4 -tls -g"].verdict == "warning"
    assert is_ready(list(found.values()))


def test_network_without_addresses(tmp_path: Path) -> None:
    found = by_name(checks.check_network(machine(tmp_path), A2))
    assert found["/etc/hccn.conf"].verdict == "missing"
    assert found["npu-smi info"].verdict == found["hccn_tool"].verdict == "warning"
    write(tmp_path, "/etc/hccn.conf", "address_4=10.0.0.4\n")
    found = by_name(checks.check_network(machine(tmp_path), A2))
    assert "no address_5=" in found["/etc/hccn.conf"].found
    assert [finding.name for finding in checks.check_network(machine(tmp_path), NO_CANN)] == ["npu-smi info"]


def test_pairs_of_torch_and_torch_npu() -> None:
    def judge(torch: str, plugin: str) -> dict[str, Finding]:
        return by_name(use_checks.check_torch({"torch": torch, "torch-npu": plugin}, {"table": True, "devices": 2}, ""))

    assert {finding.verdict for finding in judge("2.9.0+cpu", "2.9.0.post6").values()} == {"works"}
    assert "pip install torch==2.9.0" in judge("2.10.0", "2.9.0")["torch"].remedy
    assert judge("2.6.0", "2.6.0.post5")["torch"].verdict == "warning"
    assert judge("2.13.0", "2.13.0")["torch_npu"].verdict == "warning"
    failed = by_name(use_checks.check_torch({"torch": "2.9.0", "torch-npu": "2.9.0"}, None, "libhccl.so is missing"))
    assert failed["import"].verdict == "missing"
    absent = use_checks.check_torch({"torch": "2.9.0", "torch-npu": "not installed"}, None, "")
    assert [finding.verdict for finding in absent] == ["warning"]


def test_room_for_slabs() -> None:
    def judge(free: int, **options: Any) -> Finding:
        return use_checks.check_memory({"free": free, "total": 64 << 30}, "", Options(**options), A2)[0]

    assert judge(8 << 30) == Finding(
        "memory",
        "HBM of npu:0",
        "works",
        "8 GiB of 64 GiB free; slabs take 0.0625 GiB at the first use, and at most 4 GiB for each process",
    )
    assert (judge(3 << 30).verdict, judge(8 << 30, slab_cap_bytes=9 << 30).verdict) == ("warning", "warning")
    assert "RAY_HIXL_SLAB_CAP_BYTES" in judge(3 << 30).remedy
    assert judge(1 << 20).verdict == "missing"
    assert "gpu_memory_utilization" in judge(1 << 20).remedy
    assert use_checks.check_memory(None, "died", Options(), A2)[0].found == "died"
    large = Options(slab_cap_bytes=51_000_000_000)
    assert "50 GB" in by_name(use_checks.check_memory({"free": 60 << 30, "total": 64 << 30}, "", large, A2))["slab_cap_bytes"].found
    newer = Cann(soc="Ascend950PR_9599", devices=1, client_server=True)
    assert len(use_checks.check_memory({"free": 60 << 30, "total": 64 << 30}, "", large, newer)) == 1


def test_slab_and_deleter() -> None:
    started: dict[str, Any] = {"address": 6 << 20, "stats": [{"registrations": 1}]}
    assert is_ready(use_checks.check_start(started, "", 2 << 20))
    off = by_name(use_checks.check_start(started | {"address": (6 << 20) + 512}, "", 2 << 20))
    assert "512 bytes behind" in off["slab's alignment"].found
    assert use_checks.check_start(None, "503900", 2 << 20)[0].verdict == "missing"
    assert use_checks.check_deleter({"before": 1, "meanwhile": 2, "after": 1}, "")[0].verdict == "works"
    assert "would leak" in use_checks.check_deleter({"before": 1, "meanwhile": 2, "after": 2}, "")[0].found
    assert use_checks.check_deleter({"before": 1, "meanwhile": 1, "after": 1}, "")[0].verdict == "missing"
    assert use_checks.check_deleter(None, "died")[0].found == "died"


def test_counting() -> None:
    findings = [Finding("t", "a", "works", ""), Finding("t", "b", "warning", ""), Finding("t", "c", "missing", "")]
    assert count(findings) == "1 work, 1 warning, 1 missing"
    assert is_ready(findings[:2])
    assert not is_ready(findings)


def test_tools_never_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_tool(["echo", "there"]) == (True, "there")
    assert run_tool(["false"]) == (False, "")
    assert run_tool([str(tmp_path / "absent")])[0] is False
    monkeypatch.setattr("ray_hixl.cli.npu.machine._TOOL_S", 0.1)
    assert run_tool(["sleep", "60"]) == (False, "it did not end within 0.1 s")


def test_a_helper_that_dies_is_an_error_with_its_cause() -> None:
    with Helper() as helper:
        with pytest.raises(HelperError, match=r"cannot load libacl_rt\.so") as refused:
            helper.call("work.cann")
        assert refused.value.code == "not_available"
        os.kill(helper.pid, signal.SIGSEGV)
        with pytest.raises(HelperError, match=r"ended by SIGSEGV; it printed: .*Segmentation fault") as died:
            helper.call("work.cann")
    assert died.value.code == "died"


def test_a_helper_that_hangs_is_ended() -> None:
    with Helper() as helper:
        helper.process.send_signal(signal.SIGSTOP)
        with pytest.raises(HelperError, match=r"no answer within 0.2 s") as hung:
            helper.call("work.probe", timeout=0.2)
        assert hung.value.code == "hung"
        eventually(lambda: helper.process.poll() is not None)


def run_cli(*arguments: str) -> tuple[int, str]:
    ended = subprocess.run([sys.executable, "-m", "ray_hixl.cli", *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def test_doctor_without_cann() -> None:
    code, text = run_cli("doctor")
    assert code == 0
    assert "FAKE" not in text
    assert "CPU tensors: work, between processes of one host by shm, cma, stream" in text.replace("\n", " ").replace("  ", " ")
    assert "NPU tensors: not here" in text
    code, text = run_cli("doctor", "--npu", "--json")
    report = json.loads(text)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert code == 1
    assert not report["ready"]
    assert not report["fake"]
    assert "/usr/local/Ascend/cann/lib64/libacl_rt.so" in found["CANN"]["found"]
    assert "authenticates nobody" in found["who may connect"]["found"]
    assert found["torch_npu"]["verdict"] == "warning"


def test_doctor_looks_at_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_HIXL_TRANSPORTS", "local,stream")
    code, text = run_cli("doctor", "--json")
    report = json.loads(text)
    assert code == 0
    assert {each["name"]: each["verdict"] for each in report["transports"]}["cma"] == "refused"
    assert "between processes of one host by stream, between hosts by stream" in report["verdict"][0]
    monkeypatch.setenv("RAY_HIXL_TRANSPORT", "cma")
    monkeypatch.setenv("RAY_HIXL_QUITE_ELSE", "1")
    options = {each["name"]: each for each in json.loads(run_cli("doctor", "--json")[1])["options"]}
    assert options["RAY_HIXL_TRANSPORTS"]["verdict"] == "works"
    assert options["RAY_HIXL_TRANSPORT"]["remedy"] == "did you mean RAY_HIXL_TRANSPORTS?"
    assert options["RAY_HIXL_QUITE_ELSE"]["verdict"] == "warning"
    assert "docs/options.md" in options["RAY_HIXL_QUITE_ELSE"]["remedy"]
    monkeypatch.delenv("RAY_HIXL_TRANSPORT")
    monkeypatch.delenv("RAY_HIXL_QUITE_ELSE")
    monkeypatch.setenv("RAY_HIXL_TRANSPORTS", "rdma")
    code, text = run_cli("doctor", "--json")
    report = json.loads(text)
    assert code == 1
    assert "rdma" in report["transports"][0]["found"]
    assert report["options"][0]["verdict"] == "missing"
    assert report["verdict"][0] == "CPU tensors: no transport works between processes here; each says above why, or the settings do."


def test_bringup_without_cann(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    code, text = run_cli("bringup", "--json", str(file))
    report = json.loads(file.read_text())
    outcomes = {step["number"]: step["outcome"] for step in report["steps"]}
    assert code == 1
    assert (outcomes.pop("1"), outcomes.pop("2")) == ("FAIL", "FAIL")
    assert set(outcomes.values()) == {"SKIP"}
    assert "libacl_rt.so" in report["steps"][1]["error"]
    assert "it needs step 2, which has not passed" in text
