"""What a step of ``ray-hixl bringup`` works with: processes, a place for evidence, and what earlier steps found out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from ray_hixl.cli.findings import shorten
from ray_hixl.cli.npu import facts
from ray_hixl.cli.npu.cann import Cann
from ray_hixl.cli.npu.helper import Helper

MIB = 1 << 20


class Failed(Exception):
    """The step failed: something was seen that must not be."""


class Skipped(Exception):
    """The step cannot be taken here, and why."""


@dataclass(frozen=True)
class Amounts:
    """How much is moved."""

    soak: int  # objects of step 10
    large: int = 64 * MIB  # bytes of the large tensor, and how often it travels
    times: int = 10
    blocks: int = 9216  # tensors of 32 KiB in an object, a paged KV cache; and how often it is fetched
    fetches: int = 3

    @classmethod
    def quick(cls, soak: int) -> Amounts:
        """Shows that it runs, measures nothing."""
        return cls(soak, large=8 * MIB, times=3, blocks=1024, fetches=2)


@dataclass
class Context:
    """Shared by all steps; evidence and helpers are the current step's."""

    console: Console
    amounts: Amounts
    contract: Path | None
    connect: Path | None
    versions: dict[str, str]
    cann: Cann = field(default_factory=lambda: Cann(error="not looked for yet"))
    findings: list[dict[str, Any]] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    helpers: list[Helper] = field(default_factory=list)
    shared: tuple[Helper, Helper] | None = None

    def note(self, text: str) -> None:
        """Something that was seen, for the screen and for the report."""
        self.evidence.append(text)
        self.console.print(f"      {shorten(text)}", markup=False, highlight=False)

    def helper(self, environment: Mapping[str, str | None] | None = None) -> Helper:
        """A process that ends with the step, well or the step fails.

        Where processes cannot share an NPU (CANN below 9.1) the pair ends first, so take the pair after it.
        """
        if not self.cann.client_server and (problems := self.close_pair(kill=False)):
            raise Failed("; ".join(problems))
        made = Helper(environment)
        self.helpers.append(made)
        return made

    def peer(self, which: int = 0, environment: Mapping[str, str | None] | None = None) -> Helper:
        """A process with an engine, and torch_npu in it, that sees the first or second NPU."""
        made = self.helper({**self.seeing(which), **(environment or {})})
        made.call("peer.open_engine", None, timeout=180.0)
        return made

    def pair(self) -> tuple[Helper, Helper]:
        """Two such processes, a source and a consumer, that serve one step after another for as long as none fails."""
        if self.shared is None:
            self.shared = Helper(self.seeing(0)), Helper(self.seeing(1))
            for made in self.shared:
                made.start("peer.open_engine", None)
            for made in self.shared:
                made.finish(timeout=180.0)
        return self.shared

    def close_pair(self, kill: bool) -> list[str]:
        """Ends the two; gives what was wrong with how they ended."""
        made, self.shared = self.shared or (), None
        return _close(made, kill)

    def close_helpers(self, kill: bool) -> list[str]:
        """Ends the step's own processes, and where it failed the pair, too; gives what was wrong with how they ended."""
        if kill:
            self.close_pair(kill)
        made, self.helpers = self.helpers, []
        return _close(made, kill)

    def seeing(self, which: int) -> dict[str, str]:
        """Variables for a process that sees one NPU, its npu:0, as Ray has it: the first or the second one; the only one twice."""
        visible, _ = facts.visible_devices(os.environ.get("ASCEND_RT_VISIBLE_DEVICES", ""))
        numbers = visible or list(range(self.cann.devices))
        return {"ASCEND_RT_VISIBLE_DEVICES": str(numbers[min(which, len(numbers) - 1)])}

    def npu(self, which: int) -> str:
        """What that NPU is called in a report."""
        return f"NPU {self.cann.physical[min(which, self.cann.devices - 1)]}"

    def need_torch(self) -> None:
        for name in ("torch", "torch-npu"):
            if self.versions[name] == "not installed":
                raise Skipped(f"{name} is not installed: it makes the tensors that are sent")

    def need_devices(self, number: int) -> None:
        if self.cann.devices < number:
            raise Skipped(f"it takes {number} NPUs, and this process sees {self.cann.devices}")


def _close(helpers: Iterable[Helper], kill: bool) -> list[str]:
    problems = []
    for helper in helpers:
        if kill:
            helper.kill()
        problem = helper.close()
        if problem and not kill:
            problems.append(f"process {helper.pid}: {problem}")
    return problems


@dataclass(frozen=True)
class Step:
    """One step. ``needs``: steps that must have passed."""

    number: str
    name: str
    run: Callable[[Context], None]
    needs: tuple[str, ...] = ()


def rate(nbytes: int, seconds: float) -> str:
    return f"{nbytes / seconds / 1e9:.2f} GB/s"


def milliseconds(seconds: list[float]) -> str:
    """ "first 12.3 ms, then 1.2 ms at best"."""
    first = f"first {seconds[0] * 1e3:.1f} ms"
    return first if len(seconds) == 1 else f"{first}, then {min(seconds[1:]) * 1e3:.2f} ms at best"
