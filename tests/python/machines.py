"""Machines made up of a folder, for the checks of ``ray-hixl doctor --npu``."""

from __future__ import annotations

from pathlib import Path

from ray_hixl.cli.npu.cann import Cann
from ray_hixl.cli.npu.machine import Machine
from ray_hixl.findings import Finding

A2 = Cann(
    runtime="/cann/lib64/libacl_rt.so",
    hixl="/cann/lib64/libcann_hixl.so",
    version="9.1.0",
    soc="Ascend910B3",
    devices=2,
    client_server=True,
    physical=[4, 5],
)
NO_CANN = Cann(error="cannot load libacl_rt.so")


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def write(root: Path, path: str, text: str = "") -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def machine(root: Path, tools: dict[str, tuple[bool, str]] | None = None, **variables: str) -> Machine:
    """``tools``: what each of them answers, by its name and arguments."""
    answers = tools or {}
    for name in {command.split()[0] for command in answers}:
        write(root, f"/bin/{name}")
        (root / "bin" / name).chmod(0o755)
    environment = {"PATH": str(root / "bin"), **variables}
    return Machine(root, environment, lambda command: answers[" ".join([Path(command[0]).name, *command[1:]])])
