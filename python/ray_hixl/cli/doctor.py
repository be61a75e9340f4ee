"""``ray-hixl doctor``: explains what works on this machine and why the rest does not. Needs neither Ray nor torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource

from rich.console import Console
from rich.table import Column, Table

from ray_hixl import _core


def versions() -> dict[str, str]:
    """Versions of this package and of what it works with; "not installed" where it is missing."""
    found = {}
    for name in ("ray-hixl", "ray", "torch", "torch-npu"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found | {"python": platform.python_version(), "linux": platform.release(), "machine": platform.machine()}


def _limits() -> dict[str, str]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {"cores": str(os.cpu_count()), "open files (soft limit)": str(soft), "uid": str(os.geteuid())}


def run() -> int:
    """Prints the findings; 0 if at least one transport between processes works."""
    console = Console()
    for name, text in (versions() | _limits()).items():
        console.print(f"{name:<24}{text}", highlight=False)
    why = Column("why, and what to do", overflow="fold")
    table = Table("transport", "here", why, title="transports (hixl: npu memory; the others: host memory)")
    usable = []
    for probe in _core.probe_transports():
        table.add_row(probe.transport, "works" if probe.usable else "refused", probe.reason or "")
        usable += [probe.transport] * probe.usable
    console.print(table)
    between = [kind for kind in usable if kind != "local"]
    if not between:
        console.print("No transport works between processes on this machine.")
        return 1
    console.print(f"Between processes of one host: {', '.join(between)}. Between hosts: stream (TCP, authenticated, not encrypted).")
    return 0
