"""Examples that need neither Ray nor torch do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_two_processes() -> None:
    ended = subprocess.run([sys.executable, EXAMPLES / "two_processes.py"], capture_output=True, text=True, timeout=120, check=False)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["read b'xxxx' by cma", "fetched [b'first', b'second'] by {'cma': 11}"]
