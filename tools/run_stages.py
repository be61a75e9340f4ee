#!/usr/bin/env python3
"""Runs the stages of `make test`, `make test-ray-matrix` or `make test-full` one after another, and prints what each one cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
OLD_BIN = ROOT / ".venv-ray254" / "bin"
RAY255_BIN = ROOT / ".venv-ray255" / "bin"
RAY256_BIN = ROOT / ".venv-ray256" / "bin"
NPU_BIN = ROOT / ".venv-npu" / "bin"


@dataclass
class Stage:
    """One named step: a list of commands, all of which must succeed."""

    name: str
    commands: list[list[str]]
    env: dict[str, str] = field(default_factory=dict)


def cpp(preset: str) -> Stage:
    """Configures, builds and runs the C++ tests of one preset."""
    return Stage(
        f"C++ tests ({preset})",
        [["cmake", "--preset", preset], ["cmake", "--build", "--preset", preset], ["ctest", "--preset", preset]],
        {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 2)},
    )


def pytest(name: str, bin_dir: Path, *arguments: str) -> Stage:
    return Stage(name, [[str(bin_dir / "python"), "-m", "pytest", "-q", *arguments]])


CHIPS = {
    "950": {"FAKE_CANN_SOC": "Ascend950PR_9599"},
    "A2": {"FAKE_CANN_SOC": "Ascend910B3"},  # over HCCS
    "A2 RoCE": {"FAKE_CANN_SOC": "Ascend910B3", "HCCL_INTRA_ROCE_ENABLE": "1"},
}
SHORT = ("-m", "not long")
TWO_FILES = ("-n", "2", "--dist", "loadfile")  # at a time
NPU = ("tests/npu", "--ignore=tests/npu/ray", *TWO_FILES)
NPU_LINKS = tuple(f"tests/npu/test_{about}.py" for about in ("one_npu", "landing", "registered", "without_torch"))
NPU_RAY = ("tests/npu/ray",)


def npu_pytest(chip: str, queue: int, tests: tuple[str, ...], *options: str) -> Stage:
    """The real torch_npu over the FAKE CANN libraries of the dev build, as one of the chips, in one of its two queue modes."""
    subject = {NPU: "NPU", NPU_LINKS: "NPU links", NPU_RAY: "NPU and Ray"}[tests]
    stage = pytest(f"{subject} (FAKE {chip}, queue {queue})", NPU_BIN, *tests, *options)
    stage.commands[0].insert(0, "tools/fake_cann.sh")
    stage.env = {"TASK_QUEUE_ENABLE": str(queue), "FAKE_CANN_STRICT": "1"} | CHIPS[chip]
    return stage


def cross() -> Stage:
    """The library for aarch64: it compiles without a warning, and the layouts that it asserts of HIXL hold there, too."""
    configure = ["cmake", "--preset", "aarch64"]
    return Stage("aarch64 cross build", [configure, ["cmake", "--build", "--preset", "aarch64", "--target", "ray_hixl_object"]])


RAY = ("tests/ray", *SHORT, *TWO_FILES)  # on a cluster of each
NEWEST_RAY = pytest("Ray tests (newest)", BIN, *RAY)
OLDEST_RAY = pytest("Ray tests (oldest, 2.54.1)", OLD_BIN, *RAY, "--fault-rounds=3")
OTHER_RAYS = [
    pytest("Ray tests (2.55.1)", RAY255_BIN, *RAY, "--fault-rounds=3"),
    pytest("Ray tests (2.56.1)", RAY256_BIN, *RAY, "--fault-rounds=3"),
]
RAYS = [OLDEST_RAY, *OTHER_RAYS, NEWEST_RAY]

QUICK = [
    Stage("layers", [["python", "tools/check_layers.py"]]),
    Stage("lint", [["python", "tools/lint.py"]]),
    Stage("thread safety (clang)", [["python", "tools/syntax.py", "thread-safety"]]),
    Stage("g++-11", [["python", "tools/syntax.py", "g++-11"]]),
    Stage("stubs", [["python", "tools/stubs.py"]]),
    Stage("mutants apply", [["python", "tools/run_mutants.py", "--check"]]),
    cpp("dev"),
    cpp("asan"),
    cpp("tsan"),
    Stage("fuzz (libFuzzer, clang)", [["python", "tools/fuzz.py", "15"]]),
    cross(),
    pytest("Python tests", BIN, "tests/python", *TWO_FILES),
    pytest("attacks", BIN, "tests/attack"),
    pytest("faults", BIN, "tests/fault", "--cases=200", "-n", "2"),
    NEWEST_RAY,
    OLDEST_RAY,
    pytest("several nodes", BIN, "tests/nodes"),
    npu_pytest("A2", 0, NPU, *SHORT),
    npu_pytest("A2 RoCE", 1, NPU_LINKS, *SHORT),
    npu_pytest("950", 1, NPU, *SHORT),
    npu_pytest("A2", 1, NPU_RAY, *SHORT),
    Stage("pip install", [["python", "tools/check_install.py"]]),
]


def fakes(preset: str) -> Stage:
    """The tests of the FAKE CANN libraries, which `make test` runs without sanitizers only."""
    configure = ["cmake", "--preset", preset, "-D", "RAY_HIXL_TEST_FAKES=ON"]
    test = ["ctest", "--preset", preset, "-L", "fake_cann"]
    return Stage(f"FAKE CANN's own tests ({preset})", [configure, ["cmake", "--build", "--preset", preset], test])


def python_under_asan() -> Stage:
    """The Python tests over a module with AddressSanitizer, but those of resident memory and one whose helper dies by a signal."""
    package = ROOT / "build" / "asan-python" / "package"
    runtime = subprocess.run(["clang++-19", "-print-file-name=libclang_rt.asan-x86_64.so"], capture_output=True, text=True, check=False)
    libraries = f"{runtime.stdout.strip()} libstdc++.so.6"  # which looks for exceptions when it is loaded, so before Python has loaded this
    # Not .venv, whose editable package would come first.
    tests = ["env", f"LD_PRELOAD={libraries}", str(OLD_BIN / "python"), "-m", "pytest", "-q", "tests/python"]
    tests += [
        "--ignore=tests/python/test_leaks.py",
        "--deselect=tests/python/test_npu_checks.py::test_a_helper_that_dies_is_an_error_with_its_cause",
    ]
    copy = ["cmake", "-E", "copy_directory", str(ROOT / "python" / "ray_hixl"), str(package / "ray_hixl")]
    return Stage(
        "Python tests (asan)",
        [["cmake", "--preset", "asan-python"], ["cmake", "--build", "--preset", "asan-python"], copy, tests],
        {"PYTHONPATH": str(package), "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": "detect_leaks=0"},
    )


LONG = [
    *OTHER_RAYS,
    pytest("Ray tests, long", BIN, "tests/ray", "-m", "long"),
    pytest("Ray faults, long", BIN, "tests/ray/test_random_faults.py", "--fault-rounds=200", "--fault-seed=0"),
    python_under_asan(),
    cpp("clang"),
    cpp("gcc11"),
    fakes("asan"),
    fakes("tsan"),
    Stage("fuzz, long", [["python", "tools/fuzz.py", "600"]]),
    Stage(
        "HIXL faults, long",
        [["build/asan-clang/tests/cpp/test_transport", "--gtest_filter=HixlRounds.*"]],
        {"RAY_HIXL_FAULT_ROUNDS": "10000", "RAY_HIXL_FAULT_SEED": "2"},
    ),
    Stage(
        "conformance under signals, every way",
        [["build/dev/tests/cpp/test_transport", "--gtest_filter=*/TransportTest.*:*/TransportBetweenProcesses.*"]],
        {"RAY_HIXL_TEST_SIGNALS": "1"},
    ),
    pytest("Python tests, long", BIN, "tests/python", "-m", "long"),
    npu_pytest("950", 0, NPU),
    npu_pytest("A2", 1, NPU),
    npu_pytest("A2 RoCE", 0, NPU),
    npu_pytest("A2 RoCE", 1, NPU),
    npu_pytest("A2 RoCE", 1, NPU_RAY),
    npu_pytest("950", 1, NPU_RAY),
    Stage("doors of torch_npu's releases", [["python", "tools/torch_npu_doors.py"]]),
    pytest("faults, all", BIN, "tests/fault", "--seed=0", "-n", "2"),
    Stage("mutants", [["python", "tools/run_mutants.py"]]),
]


MODES = {"test": QUICK, "rays": RAYS, "full": QUICK + LONG}


def run(stage: Stage) -> bool:
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"} | stage.env
    for command in stage.commands:
        print(f"$ {' '.join(command)}", flush=True)
        if subprocess.run(command, cwd=ROOT, env=env, check=False).returncode != 0:
            return False
    return True


def table(times: list[tuple[str, float, bool]]) -> None:
    print(f"\n{'stage':<34}{'seconds':>9}  result")
    for name, seconds, passed in times:
        print(f"{name:<34}{seconds:>9.1f}  {'passed' if passed else 'FAILED'}")
    failed = sum(not passed for _, _, passed in times)
    print(f"{'all':<34}{sum(seconds for _, seconds, _ in times):>9.1f}")
    print(f"stages: {len(times) - failed} passed, {failed} failed", flush=True)


def main() -> int:
    mode = sys.argv[1] if len(sys.argv) > 1 else "test"
    wanted = sys.argv[2:]
    known = MODES.get(mode, QUICK)
    stages = [s for s in known if not wanted or any(word in s.name for word in wanted)]
    if mode not in MODES or not stages:
        print(f"usage: run_stages.py {'|'.join(MODES)} [part of a stage's name ...]; there are: {', '.join(s.name for s in known)}")
        return 2
    times: list[tuple[str, float, bool]] = []
    for number, stage in enumerate(stages, 1):
        print(f"\n=== {number}/{len(stages)} {stage.name} ===", flush=True)
        start = time.monotonic()
        passed = run(stage)
        times.append((stage.name, time.monotonic() - start, passed))
    table(times)
    return 0 if all(passed for _, _, passed in times) else 1


if __name__ == "__main__":
    sys.exit(main())
