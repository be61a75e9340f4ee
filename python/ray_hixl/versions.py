"""Versions of this package and of what it works with."""

from __future__ import annotations

import importlib.metadata
import platform


def versions() -> dict[str, str]:
    """Versions of this package and of what it works with; "not installed" where it is missing."""
    found = {}
    for name in ("ray-hixl", "ray", "torch", "torch-npu"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found | {"python": platform.python_version(), "linux": platform.release(), "machine": platform.machine()}
