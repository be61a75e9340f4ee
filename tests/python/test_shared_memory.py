"""What the doctor says of huge pages for shared memory."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ray_hixl.cli import memory
from ray_hixl.cli.__main__ import main
from ray_hixl.findings import REFUSED, WARNING, WORKS

ALL = {"segments": 1, "mapped_bytes": 8 << 20, "huge_bytes": 8 << 20}
SOME = ALL | {"huge_bytes": 2 << 20}
NO_SEGMENT = {"segments": 0, "mapped_bytes": 4096, "huge_bytes": 0}


@pytest.mark.parametrize(
    ("source", "linux", "setting", "verdict", "found", "remedy"),
    [
        (ALL, (6, 18), "never", WORKS, "comes in them", ""),
        (SOME, (6, 18), "never", WARNING, "refused them just now", "compact_memory"),
        (SOME, (6, 1), "", WARNING, "4 KiB pages", "CONFIG_TRANSPARENT_HUGEPAGE"),
        (SOME, (5, 10), "never", WARNING, "Linux 5.10 does not make them on request", "echo advise > /sys/kernel/mm"),
        (SOME, (5, 10), "advise", WORKS, "by the machine's setting (advise)", ""),
        (NO_SEGMENT, (6, 18), "never", REFUSED, "memfd_create", "sandbox"),
    ],
)
def test_the_doctor_says_what_4_kib_pages_cost_and_how_to_mend_it(
    source: dict[str, int], linux: tuple[int, int], setting: str, verdict: str, found: str, remedy: str
) -> None:
    finding = memory.judge(source, linux, setting)
    assert finding.verdict == verdict
    assert found in finding.found
    assert remedy in finding.remedy
    assert bool(finding.remedy) == bool(remedy)


def test_the_doctor_looks_at_memory_of_an_engine() -> None:
    report = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    (finding,) = report["memory"]
    assert finding["topic"] == memory.TOPIC
    assert finding["verdict"] in (WORKS, WARNING)
    assert "huge pages" in finding["name"]
