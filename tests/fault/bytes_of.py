"""The bytes of published tensors: known on both sides, different from one tensor, position and case to the next."""

from __future__ import annotations

import random

_LONGEST = 32 << 20
_STEP = (1 << 20) + 12_289  # of no use as an offset: a wrong one never meets equal bytes
_base = b""


def tensor_bytes(seed: int, index: int, length: int) -> memoryview:
    """Of tensor ``index`` in the case ``seed``. At most 32 MiB."""
    global _base
    if not _base:
        block = random.Random(7).randbytes(_STEP)
        _base = (block * (_LONGEST // _STEP + 2))[: _LONGEST + _STEP]
    start = (seed * 7919 + index * 104_729) % _STEP
    return memoryview(_base)[start : start + length]
