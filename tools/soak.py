#!/usr/bin/env python3
"""Repeats the C++ tests under both sanitizers with every core busy, to find what fails once in a while: a flake is a fault.

Suites that start processes run 30 times, the rest 5 times (--processes, --others). Every run of a test is a process of its own, since some
faults show only while one ends. What passed is remembered in build/soak.json, so that a run which was stopped goes on where it was; --again
forgets it. Prints what ran and how often, at the end and whenever a suite is through; what a suite that failed said is left in build/soak.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES_AT_ONCE = 3
STATE = ROOT / "build" / "soak.json"
STARTS_PROCESSES = re.compile(r"\bPeerProcess\b|\bLineProcess\b|\bin_child\(|\bfork\(")
SUITE = re.compile(r"\b(?:TEST|TEST_F|TEST_P|TYPED_TEST)\(\s*(\w+)\s*,")
LOCAL_INCLUDE = re.compile(r'#include "([^"]+)"')


def spin() -> None:
    while True:
        pass


def process_suites() -> set[str]:
    """Suites whose source, or a header beside it, starts processes."""
    found: set[str] = set()
    for source in (ROOT / "tests" / "cpp").rglob("*_test.cc"):
        text = source.read_text()
        beside = [source.parent / Path(name).name for name in LOCAL_INCLUDE.findall(text)]
        texts = [text, *(path.read_text() for path in beside if path.exists())]
        if any(STARTS_PROCESSES.search(each) for each in texts):
            found.update(SUITE.findall(text))
    return found


def suites_of(preset: str) -> dict[str, int]:
    """Each suite that ctest knows, with the number of its tests."""
    shown = subprocess.run(["ctest", "--preset", preset, "--show-only=json-v1"], cwd=ROOT, check=True, capture_output=True, text=True)
    counts: dict[str, int] = defaultdict(int)
    for test in json.loads(shown.stdout)["tests"]:
        counts[test["name"].split(".")[0]] += 1
    return dict(counts)


def repeat(preset: str, suite: str, times: int) -> subprocess.CompletedProcess[str]:
    """Runs every test of a suite `times` times, or until one fails."""
    pattern = "^" + re.escape(suite) + r"(\.|$)"
    command = ["ctest", "--preset", preset, "-R", pattern, "--repeat", f"until-fail:{times}", "--no-tests=error"]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@contextmanager
def cancelled_on_error(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Ctrl-C begins nothing more."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def remember(passed: dict[str, int]) -> None:
    """Whole or not at all, whenever this is stopped."""
    beside = STATE.with_suffix(".new")
    beside.write_text(json.dumps(passed, indent=1))
    beside.rename(STATE)


def soak(preset: str, processes: int, others: int, only: str) -> list[str]:
    """What failed; it is shown. Several suites at a time, since most tests wait for something."""
    passed: dict[str, int] = json.loads(STATE.read_text()) if STATE.exists() else {}
    starts = process_suites()
    failed, runs = [], 0
    with ThreadPoolExecutor(SUITES_AT_ONCE) as pool, cancelled_on_error(pool):
        running = {}
        for suite, tests in suites_of(preset).items():
            times = processes if starts & set(suite.split("/")) else others
            if re.search(only, suite) and passed.get(f"{preset} {suite}", 0) < times:
                running[pool.submit(repeat, preset, suite, times)] = suite, tests, times
        for done in as_completed(running):
            suite, tests, times = running[done]
            result = done.result()
            if result.returncode == 0:
                passed[f"{preset} {suite}"] = times
                runs += tests * times
                remember(passed)
            else:
                failed.append(f"{preset} {suite}")
                said = STATE.with_suffix("") / f"{preset}-{suite.replace('/', '-')}.log"
                said.parent.mkdir(exist_ok=True)
                said.write_text(result.stdout + result.stderr)
                print(f"soak: {said}:\n{result.stdout[result.stdout.find('The following tests FAILED') :]}")
            print(f"soak: {preset} {suite}: {tests} tests x {times}: {'FAILED' if result.returncode else 'passed'}", flush=True)
    print(f"soak: {preset}: {runs} test runs passed in this call, {len(passed)} suites done in all, {len(failed)} failed", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["asan", "tsan"], help="of CMakePresets.json, configured and built here first")
    parser.add_argument("--processes", type=int, default=30)
    parser.add_argument("--others", type=int, default=5)
    parser.add_argument("--only", default="", help="a regular expression of suites")
    parser.add_argument("--quiet-machine", action="store_true", help="without the busy loops")
    parser.add_argument("--again", action="store_true", help="forget what passed before")
    chosen = parser.parse_args()
    if chosen.again:
        STATE.unlink(missing_ok=True)
    for preset in chosen.presets:
        for step in (["cmake", "--preset", preset], ["cmake", "--build", "--preset", preset]):
            subprocess.run(step, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    busy = [multiprocessing.Process(target=spin, daemon=True) for _ in range(0 if chosen.quiet_machine else os.cpu_count() or 1)]
    for process in busy:
        process.start()
    try:
        failed = [each for preset in chosen.presets for each in soak(preset, chosen.processes, chosen.others, chosen.only)]
    finally:
        for process in busy:
            process.kill()
    print(f"soak: failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
