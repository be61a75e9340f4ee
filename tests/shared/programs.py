"""Runs a program of examples/, or another one, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: str, quiet: bool = False, **environment: str) -> list[str]:
    """The lines that it prints, once it has ended well. ``environment``: what it sees beside this process's. ``quiet``: stderr is empty."""
    command = [sys.executable, str(_EXAMPLES / name), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ | environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not (quiet and ended.stderr), ended.stderr
    return ended.stdout.splitlines()
