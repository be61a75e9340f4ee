#!/usr/bin/env python3
"""Formatters, linters and type checks. clang-tidy is slow, so its verdict is remembered (remembered.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from remembered import ROOT, check_changed


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
    settings = (ROOT / ".clang-tidy").read_bytes()
    checked, passed = check_changed("tidy", tracked("src/*.cc"), settings, lambda source: tidy(source, build))
    print(f"lint: clang-tidy: {checked} file(s) checked: {'ok' if passed else 'FAILED'}", flush=True)
    return passed


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
