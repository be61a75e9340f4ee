#!/usr/bin/env python3
"""`pip install .` into a clean environment gives `import ray_hixl` and the `ray-hixl` command, without torch and Ray."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "-q", str(ROOT)], check=True)
        subprocess.run([python, "-c", "import ray_hixl, sys; assert 'torch' not in sys.modules and 'ray' not in sys.modules"], check=True)
        subprocess.run([str(Path(folder) / "bin" / "ray-hixl"), "version"], check=True)
    print("check_install: a clean environment can import ray_hixl and run ray-hixl")
    return 0


if __name__ == "__main__":
    sys.exit(main())
