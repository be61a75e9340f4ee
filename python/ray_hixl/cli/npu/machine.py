"""The machine under a check: its files, variables and tools. A value, so that tests can put another one in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TOOL_S = 10.0  # npu-smi hangs where a driver does


def run_tool(command: list[str]) -> tuple[bool, str]:
    """Did it end well, and what it printed or why it did not run. Bounded in time; never raises."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S, errors="replace", check=False)
    except subprocess.TimeoutExpired:
        return False, f"it did not end within {_TOOL_S:g} s"
    except OSError as error:
        return False, str(error)
    return ended.returncode == 0, (ended.stdout + ended.stderr).strip()


@dataclass(frozen=True)
class Machine:
    """Where to look. ``root`` stands in front of every absolute path."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    run: Callable[[list[str]], tuple[bool, str]] = run_tool

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str | None:
        """The text of a file; None where it cannot be read."""
        try:
            return self.path(absolute).read_text(errors="replace")
        except OSError:
            return None

    def variable(self, name: str) -> str:
        return self.environment.get(name, "")

    def tool(self, name: str, *places: str) -> str | None:
        """Its path: of the search path, else of ``places``."""
        found = shutil.which(name, path=self.environment.get("PATH"))
        return found or next((str(path) for path in map(self.path, places) if os.access(path, os.X_OK)), None)

    def is_container(self) -> bool:
        return self.path("/.dockerenv").exists() or self.path("/run/.containerenv").exists() or "container" in self.environment
