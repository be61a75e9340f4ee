"""``ray-hixl bringup``: the steps for the first person with hardware, in order. What fails stops what needs it; everything else goes on."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ray_hixl.cli.findings import shorten
from ray_hixl.cli.npu import doctor, engine_steps, ray_steps, torch_steps
from ray_hixl.cli.npu.context import Context, Failed, Skipped, Step
from ray_hixl.cli.npu.helper import HelperError

FAKE_HEADING = "FAKE CANN, NO NPU: "
_COLOURS = {"PASS": "green", "FAIL": "red", "SKIP": "yellow"}

STEPS = (
    Step("1", "doctor --npu", engine_steps.look_around),
    Step("2", "load HIXL", engine_steps.load),
    Step("3", "one process, npu:0: start HIXL, register a slab, end, again", engine_steps.start_twice, ("2",)),
    Step("4.1", "two processes, two NPUs: READ of 2 MiB", engine_steps.read_small, ("3",)),
    Step("4.2", "the same, 64 MiB, with its rate", engine_steps.read_large, ("4.1",)),
    Step("4.3", "two processes, two NPUs: an object of thousands of tensors of 32 KiB", engine_steps.fetch_blocks, ("4.1",)),
    Step("4.4", "two processes, two NPUs: READ over RoCE (HCCL_INTRA_ROCE_ENABLE=1)", engine_steps.read_by_roce, ("4.1",)),
    Step("4.5", "RoCE on one side only is refused by name", engine_steps.differ, ("4.1",)),
    Step("5", "two hosts", engine_steps.read_from_the_other_host, ("3",)),
    Step("6", "two processes on one NPU", engine_steps.share_a_device, ("3",)),
    Step("7", "HIXL's contract, against the real library", engine_steps.check_contract, ("2",)),
    Step("8.1", "torch_npu: ordinary tensors, and operators on what arrives", torch_steps.ordinary_tensors, ("3",)),
    Step("8.2", "torch_npu: registered memory", torch_steps.registered_memory, ("3",)),
    Step("8.3", "torch_npu: expandable segments", torch_steps.expandable_segments, ("3",)),
    Step("8.4", "torch_npu: a private format is refused", torch_steps.private_formats, ("3",)),
    Step("8.5", "torch_npu: memory of dropped tensors comes back", torch_steps.deleter, ("3",)),
    Step("9", "Ray: actor to actor, ray.get, a killed actor, a restarted one", ray_steps.handoffs, ("8.1",)),
    Step("10", "soak", engine_steps.soak, ("8.1",)),
    Step("11", "the two processes of most steps end by themselves", engine_steps.end, ("3",)),
)


@dataclass
class Result:
    """How a step went."""

    number: str
    name: str
    outcome: str  # PASS, FAIL or SKIP
    seconds: float
    evidence: list[str]
    error: str = ""
    code: str = ""  # of the error


def run_step(context: Context, step: Step, passed: set[str]) -> Result:
    """Runs it, unless a step that it needs has not passed."""
    context.evidence = []
    begin = time.monotonic()
    error = code = ""
    missing = [number for number in step.needs if number not in passed]
    try:
        if missing:
            raise Skipped(f"it needs step {', '.join(missing)}, which has not passed")
        step.run(context)
        outcome = "PASS"
    except Skipped as reason:
        outcome, error = "SKIP", str(reason)
    except HelperError as failure:
        outcome, error, code = "FAIL", str(failure), failure.code
    except Failed as failure:
        outcome, error, code = "FAIL", str(failure), "failed"
    problems = context.close_helpers(kill=outcome == "FAIL")
    if problems and outcome == "PASS":
        outcome, error, code = "FAIL", "; ".join(problems), "exit"
    return Result(step.number, step.name, outcome, round(time.monotonic() - begin, 3), context.evidence, error, code)


def run(context: Context, only: set[str], report: Path | None) -> int:
    """All steps, or those of ``only`` and what they need; 0 if none failed and one at least passed."""
    results: list[Result] = []
    passed: set[str] = set()
    with doctor.Questions() as questions:
        context.cann = doctor.find_cann(questions)  # every heading says what it is about
    for step in STEPS:
        if only and not _is_wanted(step, only):
            continue
        heading = FAKE_HEADING if context.cann.fake else ""
        context.console.print(Text(f"{heading}step {step.number}: {step.name}", style="bold"))
        result = run_step(context, step, passed)
        results.append(result)
        if result.outcome == "PASS" or step.number == "1":  # the doctor errs on the strict side: the other steps find out
            passed.add(step.number)
        _show(context.console, result, heading)
        if report is not None:
            _write(report, context, results)  # after every step: a crash of this process loses nothing
    failed = [result.number for result in results if result.outcome == "FAIL"]
    counts = ", ".join(f"{sum(result.outcome == outcome for result in results)} {outcome}" for outcome in _COLOURS)
    heading = FAKE_HEADING if context.cann.fake else ""
    context.console.print(Text(f"{heading}{counts}" + (f"; failed: {', '.join(failed)}" if failed else ""), style="bold"))
    if context.cann.fake:
        context.console.print(
            Text("All of this was FAKE: ray-hixl's tests' stand-in for CANN. It says nothing about any NPU.", style="bold red")
        )
    if report is not None:
        context.console.print(f"The report is in {report}: please attach it to an issue, also if everything passed.", highlight=False)
    return 0 if passed - {"1"} and not failed else 1


def numbers() -> set[str]:
    """Of steps, and of groups of them."""
    return {each.number for each in STEPS} | {each.number.split(".")[0] for each in STEPS}


def _is_wanted(step: Step, only: set[str]) -> bool:
    """Asked for itself, as one of a group ("8" is 8.1 to 8.5), or needed by one that is."""
    wanted = {each.number for each in STEPS if each.number in only or each.number.split(".")[0] in only}
    for each in reversed(STEPS):
        if each.number in wanted:
            wanted |= set(each.needs)
    return step.number in wanted


def _show(console: Console, result: Result, heading: str) -> None:
    line = Text(f"{heading}{result.outcome}", style=f"bold {_COLOURS[result.outcome]}")
    line.append(f" {result.seconds:.1f} s", style="default")
    if result.error:
        line.append(f" {f'({result.code}) ' if result.code else ''}{shorten(result.error)}", style="default")
    console.print(line)


def _write(file: Path, context: Context, results: list[Result]) -> None:
    """No secrets in it: descriptors stay in the helpers, and of the environment only what concerns CANN."""
    content: dict[str, Any] = {
        "ray-hixl bringup": 1,
        "fake": context.cann.fake,
        "note": f"{FAKE_HEADING}this report says nothing about any NPU" if context.cann.fake else "",
        "versions": context.versions,
        "cann": asdict(context.cann),
        "environment": doctor.environment(),
        "findings": context.findings,
        "steps": [asdict(result) | {"fake": context.cann.fake} for result in results],
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
