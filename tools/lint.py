#!/usr/bin/env python3
"""Formatters, linters and type checks. clang-tidy is slow, so its verdict is remembered by the hash of a file and all headers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "tidy"


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).exists()]


def run(name: str, command: list[str]) -> bool:
    passed = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    print(f"lint: {name}: {'ok' if passed else 'FAILED'}", flush=True)
    return passed


def tidy(source: Path, build: Path) -> bool:
    result = subprocess.run(["clang-tidy", "--quiet", "-p", str(build), str(source)], cwd=ROOT, check=False, capture_output=True, text=True)
    if result.returncode != 0:
        print(result.stdout + result.stderr, flush=True)
    return result.returncode == 0


def tidy_all() -> bool:
    build = ROOT / "build" / "release"
    subprocess.run(["cmake", "--preset", "release"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    headers = hashlib.sha256()
    for path in [ROOT / ".clang-tidy", *tracked("src/*.h", "include/*.h")]:
        headers.update(path.read_bytes())
    CACHE.mkdir(parents=True, exist_ok=True)
    todo = []
    for source in tracked("src/*.cc"):
        digest = headers.copy()
        digest.update(source.read_bytes())
        stamp = CACHE / digest.hexdigest()
        if not stamp.exists():
            todo.append((source, stamp))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(lambda item: tidy(item[0], build), todo))
    for (_, stamp), passed in zip(todo, verdicts, strict=True):
        if passed:
            stamp.touch()
    print(f"lint: clang-tidy: {len(todo)} file(s) checked: {'ok' if all(verdicts) else 'FAILED'}", flush=True)
    return all(verdicts)


def main() -> int:
    sources = [str(path) for path in tracked("*.cc", "*.h")]
    results = [
        run("clang-format", ["clang-format", "--dry-run", "--Werror", *sources]),
        run("ruff", ["ruff", "check", "-q", "."]),
        run("ruff format", ["ruff", "format", "-q", "--check", "."]),
        run("mypy", ["mypy"]),
        tidy_all(),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
