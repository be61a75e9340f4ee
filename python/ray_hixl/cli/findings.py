"""Findings: what a check saw, how good that is, and what to do about it. The doctor's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

WORKS, WARNING, MISSING, REFUSED = "works", "warning", "missing", "refused"
_LONGEST = 700  # characters
_COLOURS = {WORKS: "green", WARNING: "yellow", MISSING: "red", REFUSED: "yellow"}


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    :param topic: what it belongs to; findings of one topic stand together.
    :param name: what was looked at.
    :param verdict: ``works``, ``warning`` (it may work, or part of it), ``missing`` (NPU memory cannot be moved without it) or ``refused``
        (one of several ways, not available here).
    :param found: what is there, or why it is not good.
    :param remedy: what to do; empty where nothing is to be done.
    """

    topic: str
    name: str
    verdict: str
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def is_ready(findings: Sequence[Finding]) -> bool:
    """Nothing is missing; there may be warnings."""
    return all(finding.verdict != MISSING for finding in findings)


def count(findings: Sequence[Finding]) -> str:
    """ "12 work, 2 warnings, 1 missing"."""
    by_verdict = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in (WORKS, WARNING, MISSING)}
    warnings = "warning" if by_verdict[WARNING] == 1 else "warnings"
    return f"{by_verdict[WORKS]} work, {by_verdict[WARNING]} {warnings}, {by_verdict[MISSING]} missing"


def shorten(text: str) -> str:
    """A long sentence (an error of HIXL with its ports) without its middle, for a screen. JSON has all of it."""
    if len(text) <= _LONGEST or "\n" in text:
        return text
    return f"{text[: _LONGEST // 2]} [...] {text[-_LONGEST // 2 :]}"


def show(console: Console, findings: Sequence[Finding], heading: str) -> None:
    """Topic by topic, in the order in which they first appear. ``heading`` stands in front of each topic."""
    for topic in dict.fromkeys(finding.topic for finding in findings):
        console.print(Text(heading + topic, style="bold"))
        grid = Table.grid(Column(width=8, no_wrap=True), Column(overflow="fold"), padding=(0, 0, 0, 1), pad_edge=True)
        for finding in findings:
            if finding.topic == topic:
                text = ": ".join(filter(None, (finding.name, shorten(finding.found))))
                remedy = f"\n-> {finding.remedy}" if finding.remedy else ""
                grid.add_row(Text(finding.verdict, style=_COLOURS[finding.verdict]), Text(text + remedy))
        console.print(grid)
