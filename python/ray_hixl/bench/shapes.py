"""What is moved: one buffer, or many blocks at least 4 KiB apart in shuffled order, as a paged KV cache lies in memory."""

from __future__ import annotations

import random
from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20
_GAP = 4 * KIB


@dataclass(frozen=True)
class Shape:
    """``count`` blocks of ``block`` bytes."""

    name: str
    count: int
    block: int

    @property
    def bytes(self) -> int:
        return self.count * self.block

    @property
    def span(self) -> int:
        """Bytes of a buffer that holds the blocks with their gaps."""
        return self.count * (self.block + _GAP) if self.count > 1 else self.block

    def offsets(self, seed: int) -> list[int]:
        """Where each block starts in such a buffer; shuffled."""
        starts = [index * (self.block + _GAP) for index in range(self.count)] if self.count > 1 else [0]
        random.Random(seed).shuffle(starts)
        return starts


FULL = [
    Shape("4 KiB", 1, 4 * KIB),
    Shape("1 MiB", 1, MIB),
    Shape("64 MiB", 1, 64 * MIB),
    Shape("256 MiB", 1, 256 * MIB),
    Shape("512 MiB", 1, 512 * MIB),
    Shape("9216 x 32 KiB", 9216, 32 * KIB),
    Shape("6144 x 128 KiB", 6144, 128 * KIB),
    Shape("3500 x 384 KiB", 3500, 384 * KIB),
]
QUICK = [Shape("4 KiB", 1, 4 * KIB), Shape("8 MiB", 1, 8 * MIB), Shape("256 x 32 KiB", 256, 32 * KIB)]
