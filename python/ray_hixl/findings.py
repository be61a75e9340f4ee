"""Findings: what a check saw, how good that is, and what to do about it. The doctor's rows, and those of ``ray_hixl.check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

WORKS, WARNING, MISSING, REFUSED = "works", "warning", "missing", "refused"


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    :param topic: what it belongs to; findings of one topic stand together.
    :param name: what was looked at.
    :param verdict: ``works``, ``warning`` (it may work, or part of it), ``missing`` (tensors cannot be moved without it) or ``refused``
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

    def __str__(self) -> str:
        return f"{self.verdict}: {self.name}: {self.found}" + (f" -> {self.remedy}" if self.remedy else "")


def is_ready(findings: Sequence[Finding]) -> bool:
    """Nothing is missing; there may be warnings."""
    return all(finding.verdict != MISSING for finding in findings)


def count(findings: Sequence[Finding]) -> str:
    """ "12 work, 2 warnings, 1 missing"."""
    by_verdict = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in (WORKS, WARNING, MISSING)}
    warnings = "warning" if by_verdict[WARNING] == 1 else "warnings"
    return f"{by_verdict[WORKS]} work, {by_verdict[WARNING]} {warnings}, {by_verdict[MISSING]} missing"
