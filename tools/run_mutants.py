#!/usr/bin/env python3
"""Mutants: patches that put a defect in. Each must turn the test it names red, or the suite could not have caught the defect.

A patch in tests/mutants/ starts with two lines:  `Defect: <what is wrong>` and `Test: <kind> <selector>`, where kind is `ctest` (a regular
expression of test names), `pytest` (a test id), `npu` (a test id, over the FAKE CANN) or `syntax` (a check of tools/syntax.py). Arguments
choose mutants by parts of their names; --check only asks whether every patch still applies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "mutants"
BIN = ROOT / ".venv" / "bin"
# Where ray_hixl is not installed editable: its finder would come before the mutant's own package.
TEST_PYTHON = ROOT / ".venv-ray254" / "bin" / "python"
NPU_PYTHON = ROOT / ".venv-npu" / "bin" / "python"


@dataclass
class Mutant:
    path: Path
    defect: str
    kind: str
    selector: str


def load(path: Path) -> Mutant:
    header = dict(line.split(": ", 1) for line in path.read_text().splitlines()[:2])
    kind, selector = header["Test"].split(" ", 1)
    return Mutant(path, header["Defect"], kind, selector.strip())


def applies(mutant: Mutant) -> bool:
    return subprocess.run(["git", "apply", "--check", str(mutant.path)], cwd=ROOT, check=False).returncode == 0


def quiet(command: list[str]) -> bool:
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(COPY / "python")}
    return subprocess.run(command, cwd=COPY, env=env, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def copy_tree() -> None:
    """A copy of the sources beside a build directory of its own, so that builds stay incremental from mutant to mutant."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = {line for line in listed.stdout.splitlines() if (ROOT / line).is_file()}
    for line in wanted:
        target = COPY / line
        if target.exists() and target.read_bytes() == (ROOT / line).read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / line, target)
    for folder in ("include", "src", "tests"):  # what was moved away would be built along
        for path in (COPY / folder).rglob("*"):
            if path.is_file() and str(path.relative_to(COPY)) not in wanted:
                path.unlink()


def build(mutant: Mutant) -> bool:
    if mutant.kind == "syntax":
        return True  # it is about what a compiler says
    module = ["cmake", "-S", ".", "-B", "build/python", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={BIN}/python"]
    module += [f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={COPY}/python/ray_hixl"]
    steps = [["cmake", "--preset", "dev"], ["cmake", "--build", "--preset", "dev"]]
    if mutant.kind != "ctest":
        steps += [module, ["cmake", "--build", "build/python"]]
    return all(quiet(step) for step in steps)


def test_passes(mutant: Mutant) -> bool:
    if mutant.kind == "ctest":
        return quiet(["ctest", "--preset", "dev", "--no-tests=error", "-R", mutant.selector])
    if mutant.kind == "syntax":
        return quiet([sys.executable, "tools/syntax.py", mutant.selector])
    if mutant.kind == "npu":
        return quiet(["tools/fake_cann.sh", str(NPU_PYTHON), "-m", "pytest", "-q", "-x", mutant.selector])
    return quiet([str(TEST_PYTHON), "-m", "pytest", "-q", "-x", mutant.selector])


def verdict(mutant: Mutant) -> str:
    copy_tree()
    if not build(mutant) or not test_passes(mutant):
        return "the test is red without the mutant"
    if subprocess.run(["git", "apply", "--unsafe-paths", f"--directory={COPY}", str(mutant.path)], cwd="/", check=False).returncode != 0:
        return "the patch does not apply"
    if not build(mutant):
        return "the mutant does not build"
    return "SURVIVED" if test_passes(mutant) else "killed"


def main() -> int:
    mutants = [load(path) for path in sorted((ROOT / "tests" / "mutants").glob("*.patch"))]
    if "--check" in sys.argv:
        stale = [mutant.path.name for mutant in mutants if not applies(mutant)]
        print(f"mutants: {len(mutants) - len(stale)} of {len(mutants)} patches apply" + (f"; stale: {', '.join(stale)}" if stale else ""))
        return 1 if stale or not mutants else 0
    results = []
    for mutant in [each for each in mutants if not sys.argv[1:] or any(word in each.path.name for word in sys.argv[1:])]:
        results.append((mutant, verdict(mutant)))
        print(f"{results[-1][1]:<36}{mutant.path.name}: {mutant.defect}", flush=True)
    killed = sum(result == "killed" for _, result in results)
    print(f"mutants: {killed} of {len(results)} killed")
    return 0 if results and killed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
