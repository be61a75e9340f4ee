"""The NPU part of ``ray-hixl doctor``: runs the checks of checks.py; what touches CANN or torch_npu runs in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ray_hixl.cli.npu import checks, settings_checks, use_checks, work
from ray_hixl.cli.npu.cann import Cann
from ray_hixl.cli.npu.facts import REPORTED_VARIABLES
from ray_hixl.cli.npu.helper import Helper, HelperError
from ray_hixl.cli.npu.machine import Machine
from ray_hixl.findings import WORKS, Finding
from ray_hixl.options import Options

_LONG_S = 180.0  # the first use of a device may load firmware


class Questions:
    """Calls functions of work.py in a process of their own, which is made when it is needed, and anew where it died. A context manager."""

    def __init__(self) -> None:
        self._helper: Helper | None = None

    def __enter__(self) -> Questions:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def ask(self, function: str, *arguments: Any, timeout: float = _LONG_S) -> tuple[Any, str]:
        """What the function gives, or None and why not."""
        if self._helper is None:
            self._helper = Helper()
        try:
            return self._helper.call(f"work.{function}", *arguments, timeout=timeout), ""
        except HelperError as error:
            if error.code in ("died", "hung"):
                self._end()
            return None, str(error)

    def _end(self) -> None:
        if self._helper is not None:
            self._helper.close()
        self._helper = None


def find_cann(questions: Questions) -> Cann:
    """What of CANN is here."""
    info, error = questions.ask("cann")
    return Cann(error=error) if info is None else Cann.from_info(info)


def environment() -> dict[str, str]:
    """The variables that matter to NPUs, for a report."""
    return {name: text for name, text in sorted(os.environ.items()) if REPORTED_VARIABLES.match(name)}


def examine(versions: dict[str, str], progress: Callable[[str], None] = lambda what: None) -> tuple[Cann, list[Finding]]:
    """All checks, in order. ``progress`` is told what comes next.

    torch_npu has a process of its own: whoever loads CANN first changes what the second one finds.
    """
    with Questions() as engine, Questions() as tensors:
        return _examine(versions, progress, engine, tensors)


def _examine(
    versions: dict[str, str], progress: Callable[[str], None], engine: Questions, tensors: Questions
) -> tuple[Cann, list[Finding]]:
    machine, options = Machine(), Options()
    progress("looking for CANN")
    cann = find_cann(engine)
    findings = checks.check_libraries(cann)
    findings += checks.check_installation(machine, cann)
    findings += checks.check_devices(machine, cann)
    progress("asking npu-smi and hccn_tool")
    findings += checks.check_network(machine, cann)
    findings += settings_checks.check_settings(machine, options, cann)
    findings += settings_checks.check_ports(machine, options)
    has_torch = "not installed" not in (versions["torch"], versions["torch-npu"])
    progress("importing torch_npu")
    imported, error = tensors.ask("import_torch_npu") if has_torch else (None, "")
    findings += use_checks.check_torch(versions, imported, error)
    if cann.error:
        return cann, findings
    if imported is not None:
        findings += use_checks.check_memory(*tensors.ask("memory"), options, cann)
    progress("starting HIXL on npu:0")
    started, error = engine.ask("start_device", 0)
    findings += use_checks.check_start(started, error, work.SLAB_ALIGNMENT)
    if started is not None and imported is not None:
        progress("making and dropping a tensor over device memory")
        findings += use_checks.check_deleter(*tensors.ask("drop_a_tensor"))
    return cann, findings


def trust_warning() -> Finding:
    """Said at every visit: it is the first thing to know about HIXL."""
    what = "HIXL authenticates nobody: whoever reaches its ports can read and overwrite the registered memory of this machine's NPUs"
    return Finding("ports", "who may connect", WORKS, what, "let only hosts of the cluster reach hixl_ports and the devices' NICs")
