"""Findings on a screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ray_hixl.findings import MISSING, REFUSED, WARNING, WORKS, Finding

_LONGEST = 700  # characters
_COLOURS = {WORKS: "green", WARNING: "yellow", MISSING: "red", REFUSED: "yellow"}


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
