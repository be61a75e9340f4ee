"""The examples with ``--device npu``, each as a program and a job of its own, on the cluster of the tests: four NPUs are free there."""

from __future__ import annotations

from typing import Any

import pytest
import ray

import programs


@pytest.fixture
def address(cluster: Any) -> dict[str, str]:
    """What makes ``ray.init()`` of a program join the cluster."""
    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


def test_prefill_decode(address: dict[str, str]) -> None:
    printed = programs.run(
        "prefill_decode.py", "--device=npu", "--layers=2", "--heads=2", "--width=16", "--prompt=30", "--tokens=3", **address
    )
    assert sum(line.endswith(", as in one process") for line in printed) == 3
    assert f"the decode actor fetched {{'hixl': {2 * 4 * 2 * 16 * 55}}}: 2 layers, 3 requests" in printed


@pytest.mark.long
def test_weight_sync(address: dict[str, str]) -> None:
    printed = programs.run("weight_sync.py", "--device=npu", "--layers=2", "--rows=8", "--columns=6", "--versions=2", **address)
    assert "whole: 2 versions of 2 weights into the parameters of 2 rollout actors, equal" in printed
    assert "re-cut: 2 versions, 2 parts by rows read as 2 by columns, [192, 192] bytes a version, equal" in printed


@pytest.mark.long
def test_pipeline(address: dict[str, str]) -> None:
    printed = programs.run("pipeline.py", "--device=npu", "--stages=2", "--layers=1", "--width=16", "--rows=5", "--batches=3", **address)
    assert "3 micro-batches through 2 stages: equal to what one process makes" in printed
    assert f"fetched by each stage: {[0, 3 * 4 * 5 * 16]} bytes" in printed
