"""Interleaved rounds: every contestant once per round, in shuffled order, so that a slow minute of the machine hits all of them."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Row:
    """One contestant on one shape: seconds of every measured round."""

    contestant: str
    shape: str
    bytes: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)

    def as_json(self) -> dict[str, object]:
        return {
            "contestant": self.contestant,
            "shape": self.shape,
            "bytes": self.bytes,
            "median_s": self.median,
            "min_s": self.best,
            "seconds": self.seconds,
        }


def measure(shape: str, size: int, contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2) -> list[Row]:
    """Times each contestant once in each of ``rounds`` rounds, after ``warmup`` rounds that are not counted."""
    rows = {name: Row(name, shape, size) for name in contestants}
    order = list(contestants)
    for number in range(-warmup, rounds):
        random.Random(number).shuffle(order)
        for name in order:
            start = time.perf_counter()
            contestants[name]()
            elapsed = time.perf_counter() - start
            if number >= 0:
                rows[name].seconds.append(elapsed)
    return list(rows.values())


def busy_cores(seconds: float = 1.0) -> float:
    """Cores kept busy by whatever runs on this machine, watched for ``seconds`` while this process sleeps."""

    def busy_ticks() -> int:
        with open("/proc/stat") as file:
            fields = [int(text) for text in file.readline().split()[1:9]]
        return sum(fields) - fields[3] - fields[4]  # without idle and iowait

    before = busy_ticks()
    time.sleep(seconds)
    return (busy_ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds
