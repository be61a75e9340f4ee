"""``ray-hixl doctor``: explains what works on this machine and why the rest does not. Needs neither Ray nor torch, and looks at both."""

from __future__ import annotations

import difflib
import json
import os
import resource
from typing import Any

from rich.console import Console

from ray_hixl import _core
from ray_hixl.cli import memory as shared_memory
from ray_hixl.cli.findings import show
from ray_hixl.cli.npu import doctor as npu_doctor
from ray_hixl.cli.npu.doctor import Questions
from ray_hixl.errors import HixlError
from ray_hixl.findings import MISSING, REFUSED, WARNING, WORKS, Finding, count, is_ready
from ray_hixl.options import PREFIX, VARIABLES, Options
from ray_hixl.versions import versions

FAKE_HEADING = "FAKE CANN, NO NPU: "
OTHER_VARIABLES = ("RAY_HIXL_CANN_PATH", "RAY_HIXL_ALLOW_FAKE_CANN", "RAY_HIXL_TRACE")  # that are no options of an engine


def _limits() -> dict[str, str]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {"cores": str(os.cpu_count()), "open files (soft limit)": str(soft), "uid": str(os.geteuid())}


def _transports() -> list[Finding]:
    """Asked in a process of its own: CANN's libraries are loaded for it."""
    topic = "transports (hixl: npu memory; the others: host memory)"
    with Questions() as questions:
        probes, error = questions.ask("probe")
    if probes is None:
        return [Finding(topic, "all", MISSING, error)]
    try:
        allowed = Options().transports
    except HixlError as wrong:  # no engine starts with it
        return [Finding(topic, "all", MISSING, str(wrong), "correct the RAY_HIXL_ variables of the environment")]
    forbidden = "RAY_HIXL_TRANSPORTS leaves it out"
    return [
        Finding(topic, name, WORKS if usable else REFUSED, said) if name in allowed else Finding(topic, name, REFUSED, forbidden)
        for name, usable, said in probes
    ]


def _options() -> list[Finding]:
    """The variables that are meant for us: of a misspelt one nobody else would tell."""
    topic = "options of the environment"
    known = [name.removeprefix(PREFIX) for name in (*VARIABLES, *OTHER_VARIABLES)]
    found = []
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX)):
        name = variable.removeprefix(PREFIX)
        if name in known:
            found.append(_option(topic, variable, os.environ[variable]))
            continue
        near = difflib.get_close_matches(name, known, 1)
        remedy = f"did you mean {PREFIX}{near[0]}?" if near else "docs/options.md lists them"
        found.append(Finding(topic, variable, WARNING, "there is no such option, and nobody heeds it", remedy))
    return found


def _option(topic: str, variable: str, text: str) -> Finding:
    if variable in VARIABLES:
        try:
            _core.Options().set(variable.removeprefix(PREFIX).lower(), text)
        except HixlError as wrong:
            return Finding(topic, variable, MISSING, str(wrong))
    return Finding(topic, variable, WORKS, text)


def _ray(version: str) -> list[Finding]:
    """Asked in a process of its own: it imports Ray and torch, and wraps a function of Ray."""
    with Questions() as questions:
        why, error = questions.ask("ray_gets")
    if why is None:
        return [Finding("Ray", "transport", MISSING, error)]
    if why:
        return [Finding("Ray", "ray.get", WARNING, why)]
    return [Finding("Ray", "ray.get", WORKS, f"Ray {version}; one that fails leaves no write to its targets")]


def run(npu: bool, as_json: bool) -> int:
    """Prints the findings; 0 if at least one transport between processes works, with ``npu`` if nothing is missing for NPU memory."""
    console = Console()
    facts, transports = versions() | _limits(), _transports()
    options, memory = _options(), shared_memory.examine()
    ray = [] if facts["ray"] == "not installed" else _ray(facts["ray"])
    between = [finding.name for finding in transports if finding.verdict == WORKS and finding.name != "local"]
    report: dict[str, Any] = {"versions": facts, "transports": [finding.to_json() for finding in transports]}
    report["memory"] = [finding.to_json() for finding in memory]
    report["options"] = [finding.to_json() for finding in options]
    report["ray"] = [finding.to_json() for finding in ray]
    report["verdict"] = _verdict(between)
    code = 0 if between else 1
    if not as_json:
        for name, text in facts.items():
            console.print(f"{name:<24}{text}", highlight=False)
        show(console, transports + memory + ray + options, "")
        for line in report["verdict"]:
            console.print(line)
    if npu:
        npu_report, code = _examine_npu(console, facts, as_json)
        report |= npu_report
    if as_json:
        print(json.dumps(report, indent=1))
    return code


def _verdict(between: list[str]) -> list[str]:
    """What all of it comes to, a sentence for each kind of memory. `between`: the transports that work between processes."""
    host = [name for name in between if name not in ("hixl", "staged")]
    elsewhere = ", between hosts by stream (TCP, authenticated, not encrypted)" if "stream" in host else ""
    cpu = f"CPU tensors: work, between processes of one host by {', '.join(host)}{elsewhere}."
    npu = "NPU tensors: can be tried, by hixl (not authenticated); ray-hixl doctor --npu looks closer, and ray-hixl bringup moves some."
    no_npu = "NPU tensors: not here; hixl says above why. On a machine without NPUs that is as it should be."
    received = " Those of others come to the CPU, by staged, where a fetch asks for that (device='cpu')."
    return [
        cpu if host else "CPU tensors: no transport works between processes here; each says above why, or the settings do.",
        npu if "hixl" in between else no_npu + (received if "staged" in between else ""),
    ]


def _examine_npu(console: Console, facts: dict[str, str], as_json: bool) -> tuple[dict[str, Any], int]:
    with console.status("") as status:  # nothing is shown where the output is no terminal
        if as_json:
            status.stop()
        cann, findings = npu_doctor.examine(facts, lambda what: status.update(what))
    findings.append(npu_doctor.trust_warning())
    ready = is_ready(findings)
    if not as_json:
        show(console, findings, FAKE_HEADING if cann.fake else "NPU: ")
        if cann.fake:
            console.print("[bold red]All of this is FAKE: ray-hixl's tests' stand-in for CANN. It says nothing about any NPU.[/bold red]")
        verdict = (
            "NPU memory can be tried: ray-hixl bringup." if ready else "NPU memory cannot be moved here until what is missing is there."
        )
        console.print(f"{count(findings)}. {verdict}")
    report = {
        "fake": cann.fake,
        "ready": ready,
        "environment": npu_doctor.environment(),
        "findings": [finding.to_json() for finding in findings],
    }
    return report, 0 if ready else 1
