"""What ``ray-hixl doctor`` says of memory that processes share: does it come in huge pages here, and if not, what does that cost?"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ray_hixl.engine import Engine
from ray_hixl.errors import HixlError
from ray_hixl.findings import REFUSED, WARNING, WORKS, Finding
from ray_hixl.options import Options

TOPIC = "memory shared by processes"
SETTING = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
GIVING = ("always", "within_size", "advise", "force")
ON_REQUEST = (6, 1)  # Linux
COSTS = "it comes in 4 KiB pages: taking new memory is several times slower, and in a virtual machine so may be shm after a rest"


def examine() -> list[Finding]:
    """By taking a little, as engines do."""
    try:
        with Engine(Options(transports=("local",))) as engine:
            taken = engine.empty(1)
            found = judge(engine.stats()["source"], _release(), _setting())
            del taken
    except HixlError as wrong:
        found = Finding(TOPIC, "huge pages", WARNING, str(wrong))
    return [found]


def judge(source: dict[str, Any], linux: tuple[int, int], setting: str) -> Finding:
    """What the counters of a source arena with a block in it mean.

    :param linux: the kernel's release.
    :param setting: what the machine has chosen for shared memory that is not asked for on request; empty where it knows no huge pages.
    """
    if source["segments"] == 0:
        found = "this kernel or sandbox gives no memory that can be shared (memfd_create): readers copy by cma or stream instead of shm"
        return Finding(TOPIC, "segments", REFUSED, found, "allow memfd_create and its seals in the sandbox")
    if source["huge_bytes"] == source["mapped_bytes"]:
        return Finding(TOPIC, "huge pages", WORKS, "new memory of the arenas comes in them")
    if linux >= ON_REQUEST:
        return Finding(TOPIC, "huge pages", WARNING, f"{COSTS}; the kernel has refused them just now", _remedy(setting))
    if setting in GIVING:
        found = f"shared memory has them by the machine's setting ({setting}); this kernel does not say how much"
        return Finding(TOPIC, "huge pages", WORKS, found)
    remedy = f"Linux 6.1 or newer gives them on request; on this one, as root: echo advise > {SETTING}"
    return Finding(TOPIC, "huge pages", WARNING, f"{COSTS}; Linux {linux[0]}.{linux[1]} does not make them on request", remedy)


def _remedy(setting: str) -> str:
    if not setting:
        return "a kernel with transparent huge pages (CONFIG_TRANSPARENT_HUGEPAGE)"
    return "if free memory is in pieces, as root: echo 1 > /proc/sys/vm/compact_memory; else a process or sandbox may have turned them off"


def _release() -> tuple[int, int]:
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _setting() -> str:
    try:
        text = SETTING.read_text()
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0]
