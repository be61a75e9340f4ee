#!/usr/bin/env python3
"""Checks that python/ray_hixl/_core.pyi is what the built module looks like; --write makes it so."""

from __future__ import annotations

import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "python" / "ray_hixl" / "_core.pyi"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "_core.pyi"
        subprocess.run([sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "ray_hixl._core", "-o", str(made)], check=True)
        text = made.read_text()
    if "--write" in sys.argv:
        GOLDEN.write_text(text)
        return 0
    drift = list(difflib.unified_diff(GOLDEN.read_text().splitlines(), text.splitlines(), "committed", "built", lineterm=""))
    print("\n".join(drift) + "\nstubs: _core.pyi is out of date: run `make stubs`" if drift else "stubs: _core.pyi is up to date")
    return 1 if drift else 0


if __name__ == "__main__":
    sys.exit(main())
