#!/usr/bin/env python3
"""Compiles without making anything: clang's thread-safety analysis, and g++-11, the oldest compiler that has to build the package.

tools/syntax.py thread-safety | g++-11
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from remembered import ROOT, check_changed

# What nearly every source includes, compiled once. That each source includes what it uses is for clang-tidy and the aarch64 build to see.
COMMON = ["algorithm", "atomic", "chrono", "functional", "map", "memory", "mutex", "optional", "span", "string", "thread", "vector"]
FLAGS = ["-std=c++20", "-fvisibility=hidden", "-Werror", f"-I{ROOT}/src", f"-I{ROOT}/include"]


@dataclass
class Check:
    compiler: str
    flags: list[str]
    precompiled: str  # the suffix of a precompiled header
    use: str  # the option that includes one
    python: bool  # the Python module's sources, too


CHECKS = {
    "thread-safety": Check("clang++-19", ["-Wthread-safety"], ".pch", "-include-pch", python=False),  # the module has no mutexes
    "g++-11": Check("g++-11", ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow"], ".gch", "-include", python=True),
}


def python_flags() -> list[str]:
    import nanobind

    return ["-isystem", sysconfig.get_paths()["include"], "-isystem", nanobind.include_dir(), '-DRAY_HIXL_VERSION="any"']


def precompile(name: str, check: Check) -> Path:
    header = ROOT / "build" / "syntax" / name / "common.h"
    header.parent.mkdir(parents=True, exist_ok=True)
    header.write_text("".join(f"#include <{each}>\n" for each in COMMON))
    made = header.with_name(header.name + check.precompiled)
    subprocess.run([check.compiler, *FLAGS, *check.flags, "-x", "c++-header", str(header), "-o", str(made)], check=True)
    return made if check.use == "-include-pch" else header


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in CHECKS:
        print(f"usage: tools/syntax.py {' | '.join(CHECKS)}", file=sys.stderr)
        return 2
    check = CHECKS[name]
    if shutil.which(check.compiler) is None:
        print(f"syntax: there is no {check.compiler} here. Install it with tools/setup.sh tests", file=sys.stderr)
        return 1
    command = [check.compiler, *FLAGS, *check.flags, *(python_flags() if check.python else [])]
    command += [check.use, str(precompile(name, check)), "-fsyntax-only"]
    sources = sorted([*ROOT.glob("src/**/*.cc"), *(ROOT.glob("python/src/*.cc") if check.python else [])])
    settings = subprocess.run([check.compiler, "--version"], check=True, capture_output=True).stdout + repr(command).encode()

    def passes(source: Path) -> bool:
        return subprocess.run([*command, str(source)], cwd=ROOT, check=False).returncode == 0

    checked, passed = check_changed(name, sources, settings, passes)
    print(f"syntax: {name}: {checked} of {len(sources)} file(s) checked: {'ok' if passed else 'FAILED'}", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
