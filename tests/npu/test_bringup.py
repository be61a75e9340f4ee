"""``ray-hixl bringup`` over the FAKE CANN: all of it runs, it says FAKE, and it fails where something is wrong."""

from __future__ import annotations

import json
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from commands import FAKE_LIBRARIES, run_cli, start_cli
from modes import once

pytestmark = once


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {step["number"]: step["outcome"] for step in report["steps"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """One run of everything: what it printed, and its report."""
    file = tmp_path_factory.mktemp("bringup") / "report.json"
    said = run_cli("bringup", "--json", str(file), "--soak", "60", "--quick")
    return said, json.loads(file.read_text())


def test_every_step_passes(whole: tuple[str, dict[str, Any]]) -> None:
    said, report = whole
    skipped = {"5", "7"}
    assert outcomes(report) == {step["number"]: "SKIP" if step["number"] in skipped else "PASS" for step in report["steps"]}, said
    assert [step["number"] for step in report["steps"]] == [
        *("1", "2", "3", "4.1", "4.2", "4.3", "4.4", "4.5", "5", "6", "7", "8.1", "8.2", "8.3", "8.4", "8.5", "9", "10", "11")
    ]


def test_it_says_fake_in_every_heading_and_in_the_report(whole: tuple[str, dict[str, Any]]) -> None:
    said, report = whole
    headings = [line for line in said.splitlines() if "step " in line and not line.startswith(" ")]
    assert len(headings) == len(report["steps"])
    assert all(line.startswith("FAKE CANN, NO NPU: ") for line in headings)
    assert "All of this was FAKE" in said
    assert report["fake"]
    assert "says nothing about any NPU" in report["note"]
    assert all(step["fake"] for step in report["steps"])


def test_evidence(whole: tuple[str, dict[str, Any]]) -> None:
    _, report = whole
    evidence = {step["number"]: "\n".join(step["evidence"]) for step in report["steps"]}
    assert "FAKE 9.2.0" in evidence["2"]
    assert "3 x 2097152 bytes compared, all right" in evidence["4.1"]
    assert "GB/s; each moved by hixl 8388608 bytes" in evidence["4.2"]
    assert "fetch of 1024 tensors of 32 KiB" in evidence["4.3"]
    assert "there 'hixl_cs HCCL_INTRA_ROCE_ENABLE=1" in evidence["4.5"]
    assert "published without a copy" in evidence["8.2"]
    assert "expandable segments are on" in evidence["8.3"]
    assert "FRACTAL_NZ" in evidence["8.4"]
    assert "use restarted: 8 tensors of 1 MiB" in evidence["9"]
    assert "60 objects of 4 shapes" in evidence["10"]
    assert report["environment"]["RAY_HIXL_ALLOW_FAKE_CANN"] == "1"


def test_wrong_bytes_fail_and_stop_what_needs_them(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    said = run_cli("bringup", "--json", str(file), "--only", "4", environment={"FAKE_HIXL_GARBLE_AT": "2"}, code=1)
    report = json.loads(file.read_text())
    assert outcomes(report) == {"2": "PASS", "3": "PASS", "4.1": "FAIL"} | {f"4.{n}": "SKIP" for n in range(2, 6)}, said
    failed = next(step for step in report["steps"] if step["number"] == "4.1")
    assert "1 of 2097152 bytes are wrong, the first at " in failed["error"]
    assert "it needs step 4.1, which has not passed" in said


@pytest.mark.long
def test_a_crash_is_a_failed_step(tmp_path: Path) -> None:
    """The reader's process dies in the middle of its first transfer."""
    file = tmp_path / "report.json"
    run_cli("bringup", "--json", str(file), "--only", "6", environment={"FAKE_HIXL_DIE_AT": "1"}, code=1)
    failed = json.loads(file.read_text())["steps"][-1]
    assert (failed["number"], failed["outcome"], failed["code"]) == ("6", "FAIL", "died")
    assert "ended with code 88" in failed["error"]


@pytest.mark.long
def test_codes_and_words_of_cann_are_in_the_report(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    run_cli("bringup", "--json", str(file), "--only", "6", environment={"FAKE_HIXL_FAIL_AT": "*:call:503900"}, code=1)
    failed = json.loads(file.read_text())["steps"][-1]
    assert failed["code"] == "peer_gone"
    assert "503900" in failed["error"]
    assert "FAKE" in failed["error"]


@pytest.mark.parametrize(("code", "outcome"), [(0, "PASS"), (1, "FAIL")])
def test_contract_suite(tmp_path: Path, code: int, outcome: str) -> None:
    """Step 7 runs a program of googletest against the libraries at hand, and takes its results over."""
    suite, file = tmp_path / "suite", tmp_path / "report.json"
    suite.write_text(
        "#!/bin/sh\n"
        'echo "[       OK ] HixlContract.reads_only_over_a_link (12 ms)"\n'
        f'echo "[  {"FAILED " if code else "SKIPPED"} ] HixlContractOfFaults.says_so (1 ms)"\n'
        f'echo "with $RAY_HIXL_TEST_CANN and $RAY_HIXL_TEST_DEVICES"\nexit {code}\n'
    )
    suite.chmod(0o755)
    run_cli("bringup", "--only", "7", "--contract", str(suite), "--json", str(file), code=code)
    step = json.loads(file.read_text())["steps"][-1]
    assert (step["number"], step["outcome"]) == ("7", outcome)
    assert f"RAY_HIXL_TEST_CANN={FAKE_LIBRARIES}:{FAKE_LIBRARIES}/hixl RAY_HIXL_TEST_DEVICES=0,1" in step["evidence"][0]
    assert step["evidence"][1:] == [
        "OK: HixlContract.reads_only_over_a_link",
        f"{'FAILED' if code else 'SKIPPED'}: HixlContractOfFaults.says_so",
    ]


@pytest.mark.long
def test_processes_that_cannot_share_an_npu(tmp_path: Path) -> None:
    """CANN 8.5 on A2: its refusal is what step 6 wants to see there."""
    conf, file = tmp_path / "hccn.conf", tmp_path / "report.json"
    conf.write_text("address_0=192.168.100.10\naddress_1=192.168.100.11\n")
    old = {"RAY_HIXL_CANN_PATH": f"{FAKE_LIBRARIES}:{FAKE_LIBRARIES}/hixl85", "LD_LIBRARY_PATH": str(FAKE_LIBRARIES)}
    old |= {"FAKE_CANN_SOC": "Ascend910B3", "FAKE_HIXL_HCCN_CONF": str(conf)}
    run_cli("bringup", "--only", "6", "--json", str(file), environment=old)
    report = json.loads(file.read_text())
    assert report["cann"]["version"] == "FAKE 8.5.0"
    assert outcomes(report) == {"2": "PASS", "3": "PASS", "6": "PASS"}
    assert "refused" in report["steps"][-1]["evidence"][0]


@pytest.mark.long
def test_processes_of_one_npu_of_a2(tmp_path: Path) -> None:
    """Over HCCS it is refused by name, then taken over RoCE."""
    file = tmp_path / "report.json"
    over_hccs = {"FAKE_CANN_SOC": "Ascend910B3", "HCCL_INTRA_ROCE_ENABLE": "0"}
    run_cli("bringup", "--only", "6", "--quick", "--json", str(file), environment=over_hccs)
    report = json.loads(file.read_text())
    assert outcomes(report) == {"2": "PASS", "3": "PASS", "6": "PASS"}
    refused, how, *moved = report["steps"][-1]["evidence"]
    assert refused.startswith("refused: ")
    assert "both processes use NPU 0" in refused
    assert how == "both processes have HCCL_INTRA_ROCE_ENABLE=1"
    assert moved[-1] == "3 x 2097152 bytes compared, all right"


@pytest.mark.long
def test_two_hosts(tmp_path: Path) -> None:
    """Both on this one. The file is a secret, and gone afterwards."""
    file = tmp_path / "peer.hixl"
    with start_cli("bringup", "--serve", "127.0.0.1", "--quick", "--descriptor", str(file)) as server:
        try:
            end = time.monotonic() + 300
            while not file.exists() or not file.stat().st_size:
                assert server.poll() is None, server.communicate()[0]
                assert time.monotonic() < end
                time.sleep(0.05)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            metadata = json.loads(file.read_text())["objects"][0]["metadata"]
            report_file = tmp_path / "report.json"
            other_npu = {"ASCEND_RT_VISIBLE_DEVICES": "1"}
            said = run_cli("bringup", "--connect", str(file), "--json", str(report_file), environment=other_npu)
            server.send_signal(signal.SIGINT)
            served, _ = server.communicate(timeout=120)
        finally:
            server.kill()
    assert server.returncode == 0, served
    assert not file.exists()
    text = report_file.read_text()
    assert outcomes(json.loads(text)) == {"1": "PASS", "2": "PASS", "3": "PASS", "5": "PASS"}, said
    assert "1024 x 32768 bytes" in text
    assert all(metadata[:40] not in each for each in (text, said, served))
