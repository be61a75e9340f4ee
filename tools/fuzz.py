#!/usr/bin/env python3
"""Builds the libFuzzer targets and runs them, all at once.

  tools/fuzz.py SECONDS [TARGET...]     what each finds beyond tests/fuzz/corpus is kept in build/fuzz/found
  tools/fuzz.py --commit [TARGET...]    takes what adds coverage over into tests/fuzz/corpus, small inputs first

An input that fails is left as build/fuzz/failed-<target>-*: run the target with it as its argument.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "fuzz"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
# No input may cost seconds; on a machine that is busy with other things they are long.
LIMITS = ["-timeout=60", "-max_len=4096", "-rss_limit_mb=2048", "-malloc_limit_mb=256"]


def build() -> bool:
    commands = [["cmake", "--preset", "fuzz"], ["cmake", "--build", "--preset", "fuzz"]]
    return all(subprocess.run(command, cwd=ROOT, check=False).returncode == 0 for command in commands)


def start(target: str, seconds: int) -> subprocess.Popen[str]:
    found = BUILD / "found" / target
    found.mkdir(parents=True, exist_ok=True)
    command = [str(BUILD / "tests" / "fuzz" / f"fuzz_{target}"), *LIMITS, f"-max_total_time={seconds}", "-use_value_profile=1"]
    command += [f"-artifact_prefix={BUILD}/failed-{target}-", str(found), str(CORPUS / target)]
    environment = os.environ | {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(targets: list[str], seconds: int) -> bool:
    passed = True
    running = [(target, start(target, seconds)) for target in targets]
    for target, process in running:
        lines = process.communicate()[0].splitlines()
        ended_well = process.returncode == 0
        print(f"fuzz: {target}: {lines[-1] if lines and ended_well else 'FAILED'}", flush=True)
        if not ended_well:
            print("\n".join(lines[-100:]), flush=True)
        passed = passed and ended_well
    return passed


def commit(target: str) -> None:
    found = BUILD / "found" / target
    command = [
        str(BUILD / "tests" / "fuzz" / f"fuzz_{target}"),
        "-merge=1",
        "-use_counters=0",
        "-max_len=4096",
        str(CORPUS / target),
        str(found),
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    files = list((CORPUS / target).iterdir())
    print(f"fuzz: {target}: {len(files)} files, {sum(file.stat().st_size for file in files)} bytes", flush=True)


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    targets = sys.argv[2:] or sorted(folder.name for folder in CORPUS.iterdir())
    if not build():
        return 1
    if sys.argv[1] == "--commit":
        for target in targets:
            commit(target)
        return 0
    return 0 if run(targets, int(sys.argv[1])) else 1


if __name__ == "__main__":
    sys.exit(main())
