"""Chooses the cases, plays them, and prints what was covered."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(_TESTS / each) for each in ("fault", "python", "shared")]
pytest.register_assert_rewrite("support")

from cases import Case, choose  # noqa: E402
from processes import Fleet  # noqa: E402
from table import coverage  # noqa: E402

_SEED = "RAY_HIXL_FAULT_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cases", type=int, default=0, help="so many of the cases of tests/fault; by default all")
    parser.addoption("--seed", type=int, default=1, help="chooses them, their shapes and places; 0: one that is drawn and printed")


def pytest_configure(config: pytest.Config) -> None:
    """Workers choose what their controller chose."""
    if _SEED not in os.environ or not hasattr(config, "workerinput"):
        os.environ[_SEED] = str(config.getoption("--seed") or int.from_bytes(os.urandom(3)))


def pytest_report_header() -> str:
    return f"faults: seed {os.environ[_SEED]}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A case that is named on the command line is made, whatever the seed."""
    if "case" not in metafunc.fixturenames:
        return
    named = [argument.partition("[")[2].rstrip("]") for argument in metafunc.config.args if "[" in argument]
    cases = [Case.parse(each) for each in named] or choose(int(os.environ[_SEED]), metafunc.config.getoption("--cases"))
    metafunc.parametrize("case", cases, ids=lambda case: case.id)


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    made = Fleet()
    yield made
    made.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        report.sections.append(("to run just this case", f".venv/bin/python -m pytest '{item.nodeid}'"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    played = [
        Case.parse(report.nodeid.partition("[")[2].rstrip("]"))
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if report.when == "call" and "test_fault[" in report.nodeid
    ]
    if len(played) > 1:
        terminalreporter.write_sep("=", f"faults: {len(set(played))} cases, seed {os.environ[_SEED]}")
        terminalreporter.write_line(coverage(played))
