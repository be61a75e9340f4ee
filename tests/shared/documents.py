"""Code blocks of the documents, for tests that run them as they are written."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def block(page: str, holds: str) -> str:
    """The one Python block of ``docs/<page>`` that holds this text."""
    text = (_ROOT / "docs" / page).read_text()
    found = [code for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if holds in code]
    assert len(found) == 1, f"{len(found)} blocks of {page} hold {holds!r}"
    return found[0]


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the table of ``docs/<page>`` whose heading begins with this text, without quotes; a list for each row."""
    lines = (_ROOT / "docs" / page).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading)) + 2
    rows = takewhile(lambda line: line.startswith("|"), lines[start:])
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]
