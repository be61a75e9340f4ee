#!/usr/bin/env python3
"""Fails when a source file includes a layer above or beside its own (the rule of src/README.md)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

TRANSPORTS = ("transport/local", "transport/shm", "transport/cma", "transport/stream", "transport/hixl")
BELOW: dict[str, set[str]] = {"base": set()}
for sibling in ("net", "memory", "control"):
    BELOW[sibling] = {"base"}
BELOW["transport"] = {"base", "net", "memory", "control"}
for transport in TRANSPORTS:
    BELOW[transport] = BELOW["transport"] | {"transport"}
BELOW["link"] = BELOW["transport"] | {"transport"}
BELOW["engine"] = BELOW["link"] | {"link", *TRANSPORTS}
BELOW["object"] = BELOW["engine"] | {"engine"}

PUBLIC_RANK = {name: "base" for name in ("status.h", "options.h", "memory.h", "stats.h", "transfer.h")}
PUBLIC_RANK |= {"engine.h": "engine", "objects.h": "object"}
UMBRELLA = "ray_hixl.h"

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def layer_of(path: str) -> str | None:
    """The layer of an include path or of a file relative to src/, e.g. transport/shm."""
    parts = path.split("/")
    if len(parts) > 2 and "/".join(parts[:2]) in BELOW:
        return "/".join(parts[:2])
    return parts[0] if parts[0] in BELOW else None


def complaint(own: str, include: str) -> str | None:
    """Why a file of layer `own` must not include `include`; None if it may."""
    if include.startswith("ray_hixl/"):
        header = include.removeprefix("ray_hixl/")
        if header == UMBRELLA:
            return "the umbrella header is for python/, tests and examples"
        target = PUBLIC_RANK.get(header)
    else:
        target = layer_of(include)
    if target is None:
        return "it is no layer of src/ and no public header"
    if target == own or target in BELOW[own]:
        return None
    return f"{target} is not below {own}"


def check(root: Path) -> list[str]:
    """One line for each include that breaks the rule."""
    wrong = []
    for path in sorted((root / "src").rglob("*.[ch]*")):
        own = layer_of(str(path.relative_to(root / "src")))
        if own is None:
            continue
        for include in INCLUDE.findall(path.read_text()):
            if why := complaint(own, include):
                wrong.append(f'{path.relative_to(root)} includes "{include}": {why}')
    for path in sorted((root / "include" / "ray_hixl").glob("*.h")):
        for include in INCLUDE.findall(path.read_text()):
            if not include.startswith("ray_hixl/"):
                wrong.append(f'{path.relative_to(root)} includes "{include}": public headers include public headers only')
            elif path.name != UMBRELLA and (why := complaint(PUBLIC_RANK.get(path.name, "base"), include)):
                wrong.append(f'{path.relative_to(root)} includes "{include}": {why}')
    return wrong


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    wrong = check(root)
    for line in wrong:
        print(line)
    print(f"check_layers: {len(wrong)} include(s) break the rule of src/README.md" if wrong else "check_layers: every include points down")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
