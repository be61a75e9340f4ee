"""The coverage of a run as a table, and the reasons of the cells that are empty."""

from __future__ import annotations

from collections import Counter

from cases import FAULTS, PHASES, SIDES, TRANSPORTS, Case, why_empty


def coverage(played: list[Case]) -> str:
    """Cases by fault, transport, phase and side. `-`: cannot be, for the reasons listed below; `.`: not in this run."""
    counts = Counter((case.transport, case.phase, case.fault, case.side) for case in played)
    lines = ["owner's side / reader's side, by phase; - cannot be (reasons below), . not in this run", ""]
    lines.append(f"{'fault':<18}{'transport':<13}" + "".join(f"{phase:>9}" for phase in PHASES))
    empty: dict[str, list[str]] = {}
    for fault in FAULTS:
        for transport in TRANSPORTS:
            cells = []
            for phase in PHASES:
                pair = []
                for side in SIDES:
                    why = why_empty(transport, phase, fault, side)
                    pair.append("-" if why else str(counts[transport, phase, fault, side] or "."))
                    if why:
                        empty.setdefault(why, []).append(f"{transport}/{phase}/{fault}/{side}")
                cells.append("/".join(pair))
            lines.append(f"{fault:<18}{transport:<13}" + "".join(f"{cell:>9}" for cell in cells))
    lines += ["", f"{len(counts)} cells have cases. Empty:"]
    lines += [f"{len(those):>5}  {why}" for why, those in sorted(empty.items(), key=lambda item: -len(item[1]))]
    return "\n".join(lines)
