"""Runs the benchmark, judges it against the project's goals, and writes table, JSON and plots."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ray_hixl.bench import engine_level, shapes
from ray_hixl.bench.rounds import Row, busy_cores
from ray_hixl.versions import versions

# Of the engine: (shape, ours, the ceiling, at least this share of the ceiling's speed).
_ENGINE_GOALS = [
    ("512 MiB", "hixl shm", "memcpy", 0.8),
    ("512 MiB", "hixl cma", "process_vm_readv", 0.8),
    ("9216 x 32 KiB", "hixl cma", "process_vm_readv", 0.85),
    ("512 MiB", "hixl stream (TCP)", "raw TCP socket", 0.7),
]
# Under Ray: (shape, theirs, ours takes at most this share of their time).
_RAY_GOALS = [
    ("64 MiB", "gloo", 1.0),
    ("256 MiB", "gloo", 1.0),
    ("256 MiB", "object store", 0.5),
    ("9216 x 32 KiB", "gloo", 0.25),
    ("9216 x 32 KiB", "object store", 0.25),
]
_FLOOR_FACTOR, _FLOOR_SLACK_S = 1.5, 1e-3
# Above the floor: seconds.
_FLOOR_LIMITS_S = {"9216 x 32 KiB": 60e-3, "100 references in one ray.get": 25e-3}
# Of our own code alone: at most (limit, unit, what).
_OWN_LIMITS = {
    "publish_s": (1e-6, "us", "publish of 10 000 tensors of one layout, each: at most 1 us"),
    "publish_s_of_own_layouts": (1e-6, "us", "of a layout each: at most 1 us"),
    "metadata_bytes_of_own_layouts": (16, "bytes", "metadata of a tensor of a layout of its own: at most 16 bytes"),
    "metrics_s": (1e-6, "us", "metrics of a transfer, in the thread that fetches: at most 1 us"),
}
_SHARE_LIMIT_S = 0.2e-3
# Of npu tensors over the FAKE HIXL: what a fetch may add to HIXL's own time.
_NPU_FACTOR, _NPU_SLACK_S, _NPU_LARGE_SHARE = 1.5, 30e-6, 1.05
_STAGED_SHARE = 0.7
_IDLE_CPU_S = 1e-3
_NPU_SHAPES = ("4 KiB", "1 MiB", "64 MiB", "9216 x 32 KiB", "8 MiB", "256 x 32 KiB")
_ENGINE_ONLY = ("512 MiB", "3500 x 384 KiB")  # five pairs of actors that hold it would not fit into 24 GiB
_PAPER_WIDTH = 150  # columns, where nobody's terminal limits them

Goal = tuple[str, str, bool]


def run(level: str, rounds: int, quick: bool, out: Path | None) -> int:
    """0 if every goal that this run could judge was met (always with ``quick``, which judges none)."""
    console = Console(width=None if sys.stdout.isatty() else _PAPER_WIDTH)
    chosen = shapes.QUICK if quick else shapes.FULL
    rounds = min(rounds, 3) if quick else rounds
    before = busy_cores()
    say = lambda text: console.print(f"[dim]{text} ...[/dim]")  # noqa: E731
    results: dict[str, Any] = {"machine": _machine(), "command": " ".join(sys.argv), "other_work_cores_before": before}
    goals: list[Goal] = []
    if level in ("engine", "all"):
        rows = engine_level.run([shape for shape in chosen if shape.name != "256 MiB"], rounds, say)
        results["engine"] = [row.as_json() for row in rows]
        goals += engine_goals(rows)
        console.print(_table("engine level: READ between two processes", rows))
    if level in ("ray", "all"):
        from ray_hixl.bench import ray_level

        rows, extra = ray_level.run([shape for shape in chosen if shape.name not in _ENGINE_ONLY], rounds, say)
        results["ray"], results["ray_extra"] = [row.as_json() for row in rows], extra
        goals += ray_goals(rows, extra)
        console.print(_table("Ray level: actor to actor", rows))
    if level == "npu":
        from ray_hixl.bench import npu_level

        rows, extra = npu_level.run([shape for shape in chosen if shape.name in _NPU_SHAPES], rounds, say)
        results["npu"], results["npu_extra"] = [row.as_json() for row in rows], extra
        goals += npu_goals(rows, extra)
        fake = ", over the FAKE CANN" if extra["fake"] else ""
        console.print(_table(f"npu level{fake}: fetch between two processes", rows))
        from ray_hixl.bench import npu_ray_level

        rows, extra = npu_ray_level.run([shape for shape in chosen if shape.name in _NPU_SHAPES], rounds, say)
        results["npu_ray"], results["npu_ray_extra"] = [row.as_json() for row in rows], extra
        console.print(_table(f"npu level{fake}: actor to actor", rows))
    results["goals"] = [{"goal": goal, "seen": seen, "met": met} for goal, seen, met in goals]
    console.print(f"cores busy with other work before the run: {before:.2f}")
    if not quick:
        console.print(_goal_table(goals))
    if out is not None:
        _write(out, results)
        console.print(f"written to {out}")
    return 0 if quick or all(met for _, _, met in goals) else 1


def _machine() -> dict[str, Any]:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return versions() | {"cpu": model, "cores": os.cpu_count()}


def _medians(rows: list[Row]) -> dict[tuple[str, str], float]:
    return {(row.shape, row.contestant): row.median for row in rows}


def engine_goals(rows: list[Row]) -> list[Goal]:
    """Each goal of the engine that the rows can judge: what, what was seen, met or not."""
    seconds, goals = _medians(rows), []
    for shape, ours, ceiling, share in _ENGINE_GOALS:
        if (shape, ours) in seconds:
            ratio = seconds[shape, ceiling] / seconds[shape, ours]
            goals.append((f"{shape}: {ours} at least {share:g} of {ceiling}", f"{ratio:.2f}", ratio >= share))
    return goals


def ray_goals(rows: list[Row], extra: dict[str, Any]) -> list[Goal]:
    """The same under Ray."""
    seconds, goals = _medians(rows), []
    for shape, theirs, share in _RAY_GOALS:
        if (shape, "hixl") in seconds:
            ratio = seconds[shape, "hixl"] / seconds[shape, theirs]
            goals.append((f"{shape}: at most {share:g} of {theirs}'s time", f"{ratio:.2f}", ratio <= share))
    for shape in ("4 KiB", "1 MiB", "64 MiB", "256 MiB"):
        if (shape, "floor") not in seconds:
            continue
        cost = seconds[shape, "hixl"] - seconds[shape, "floor"]
        limit = _FLOOR_FACTOR * seconds[shape, "Engine.fetch"] + _FLOOR_SLACK_S
        seen = f"{cost * 1e3:.2f} of {limit * 1e3:.2f} ms"
        goals.append((f"{shape}: above the floor at most 1.5 x Engine.fetch + 1 ms", seen, cost <= limit))
    for shape, limit in _FLOOR_LIMITS_S.items():
        if (shape, "floor") in seconds:
            cost = seconds[shape, "hixl"] - seconds[shape, "floor"]
            goals.append((f"{shape}: above the floor at most {limit * 1e3:g} ms", f"{cost * 1e3:.2f} ms", cost <= limit))
    if (share := extra["our_seconds_per_handoff"].get("4 KiB")) is not None:
        goals.append(("4 KiB: our own share at most 0.2 ms", f"{share * 1e3:.2f} ms", share <= _SHARE_LIMIT_S))
    for name, (limit, unit, goal) in _OWN_LIMITS.items():
        cost = extra["own_costs"][name]
        goals.append((goal, f"{cost * (1e6 if unit == 'us' else 1):.2f} {unit}", cost <= limit))
    return goals


def npu_goals(rows: list[Row], extra: dict[str, Any]) -> list[Goal]:
    """The same for npu tensors; on hardware, where nothing tells HIXL's own time, only what idling costs."""
    from ray_hixl.bench.npu_level import CONTROL, DEVICE_COPY, HANDOFF, RAW, STAGED, STREAM

    seconds, goals = _medians(rows), []
    if ("4 KiB", RAW) in seconds:
        added = seconds["4 KiB", "hixl"] - seconds["4 KiB", RAW]
        limit = _NPU_FACTOR * (seconds["-", HANDOFF] + seconds["-", CONTROL]) + _NPU_SLACK_S
        goal = "4 KiB: adds at most 1.5 x (a thread handoff + a control round trip) + 30 us"
        goals.append((goal, f"{added * 1e6:.0f} of {limit * 1e6:.0f} us", added <= limit))
    if ("64 MiB", RAW) in seconds:
        ratio = seconds["64 MiB", "hixl"] / seconds["64 MiB", RAW]
        goals.append(("64 MiB: at most 1.05 of HIXL's own time", f"{ratio:.3f}", ratio <= _NPU_LARGE_SHARE))
    if ("64 MiB", STAGED) in seconds:
        ratio = max(seconds["64 MiB", DEVICE_COPY], seconds["64 MiB", STREAM]) / seconds["64 MiB", STAGED]
        goal = f"64 MiB: {STAGED} at least {_STAGED_SHARE:g} of the slower of {DEVICE_COPY} and {STREAM}"
        goals.append((goal, f"{ratio:.2f}", ratio >= _STAGED_SHARE))
    idle = extra["idle_cpu_s_per_s"]
    goals.append(("idle: no CPU time", f"{idle * 1e3:.2f} ms a second", idle <= _IDLE_CPU_S))
    return goals


def _table(title: str, rows: list[Row]) -> Table:
    contestants = list(dict.fromkeys(row.contestant for row in rows))
    table = Table("shape", *contestants, title=f"{title}: median ms (GB/s)")
    cells = {(row.shape, row.contestant): _cell(row) for row in rows}
    for shape in dict.fromkeys(row.shape for row in rows):
        table.add_row(shape, *(cells.get((shape, contestant), "-") for contestant in contestants))
    return table


def _cell(row: Row) -> str:
    rate = f" ({row.bytes / row.median / 1e9:.3g})" if row.bytes else ""
    return f"{row.median * 1e3:.3g}{rate}"


def _goal_table(goals: list[Goal]) -> Table:
    table = Table("goal", "seen", "met", title="goals")
    for goal, seen, met in goals:
        table.add_row(goal, seen, "yes" if met else "[red]NO[/red]")
    return table


def _write(out: Path, results: dict[str, Any]) -> None:
    from ray_hixl.bench import plot

    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1))
    plot.draw(results, out)
