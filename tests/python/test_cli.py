"""Commands say what they need before they begin."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from click.testing import CliRunner

from ray_hixl.cli.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "missing", "said"),
    [
        (["demo"], "ray", "demo hands torch tensors from one Ray actor to another, which needs ray: pip install 'ray-hixl[ray]'"),
        (["demo"], "torch", "which needs torch: pip install torch"),
        (["check"], "ray", "check asks the actors of a Ray cluster, which needs ray: pip install 'ray-hixl[ray]'"),
        (["bench", "--level", "engine"], "numpy", "which needs numpy: pip install 'ray-hixl[bench]'"),
        (["bench", "--level", "ray"], "ray", "--level ray measures handoffs between Ray actors, which needs ray"),
        (["top"], "prometheus_client", "top reads the metrics of Ray's nodes, which needs prometheus_client: pip install 'ray[default]'"),
        (["bench", "--out", "somewhere"], "matplotlib", "--out draws plots, which needs matplotlib"),
    ],
)
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, arguments: list[str], missing: str, said: str) -> None:
    find = importlib.util.find_spec

    def without(name: str, *others: Any) -> Any:
        return None if name == missing else find(name, *others)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 1
    assert said in ended.output
    assert "Traceback" not in ended.output


def test_sizes_of_the_demo_are_checked() -> None:
    ended = CliRunner().invoke(main, ["demo", "--mebibytes", "0"])
    assert ended.exit_code == 2
    assert "x>=1" in ended.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench", "--rounds", "0"], "x>=1"),
        (["top", "--interval", "0"], "x>=0.1"),
        (["bringup", "--soak", "-1"], "x>=1"),
        (["bringup", "--only", "1,99"], "there is no step 99"),
        (["bringup", "--only", "foo"], "there is no step foo"),
        (["bringup", "--json", "/proc/nowhere/report.json"], "cannot write /proc/nowhere/report.json: "),
        pytest.param(
            ["bench", "--level", "engine", "--out", "/proc/nowhere"],
            "cannot write /proc/nowhere: ",
            marks=pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="which it looks for first"),
        ),
    ],
)
def test_what_cannot_be_is_said_first(arguments: list[str], said: str) -> None:
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code in (1, 2)
    assert said in ended.output
    assert "step 1" not in ended.output
