"""Runs ``ray-hixl`` over the FAKE CANN, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FAKE_LIBRARIES = Path(os.environ["LD_LIBRARY_PATH"].split(":")[0])
_ENVIRONMENT = {
    "LD_LIBRARY_PATH": f"{FAKE_LIBRARIES}:{FAKE_LIBRARIES}/hixl",
    "RAY_HIXL_ALLOW_FAKE_CANN": "1",
    "FAKE_CANN_STRICT": "1",
    "COLUMNS": "200",
}


def start_cli(*arguments: str, environment: dict[str, str] | None = None, folder: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ray_hixl.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=os.environ | _ENVIRONMENT | (environment or {}),
    )


def run_cli(*arguments: str, environment: dict[str, str] | None = None, code: int = 0, timeout: float = 600.0) -> str:
    """What it prints. It must end with ``code``."""
    with start_cli(*arguments, environment=environment) as process:
        try:
            said, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
    assert process.returncode == code, said
    return said
