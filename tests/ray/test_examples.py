"""The examples that use Ray, and a program out of the documents, each as a job of its own on the cluster of the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

import documents
import programs
from versions import keeps_metadata

pytestmark = keeps_metadata


@pytest.fixture
def address(cluster: Any) -> dict[str, str]:
    """What makes ``ray.init()`` of a program join the cluster."""
    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


def test_prefill_decode(address: dict[str, str]) -> None:
    *requests, moved = programs.run("prefill_decode.py", "--layers=3", "--heads=2", "--width=32", "--prompt=60", "--tokens=6", **address)
    assert [line.split(" -> ")[0] for line in requests] == [f"prompt of {count} tokens" for count in (60, 30, 20)]
    assert all(line.endswith(", as in one process") for line in requests)
    assert moved == f"the decode actor fetched {{'cma': {2 * 4 * 3 * 32 * 110}}}: 3 layers, 3 requests"


def test_paged_kv(address: dict[str, str]) -> None:
    """Blocks of 16 tokens x 32 floats, keys and values, of 2 layers."""
    *requests, late = programs.run("paged_kv.py", "--layers=2", "--heads=2", "--width=32", "--tokens=4", **address)
    read = [
        f"request {number}: 17 blocks, {known} of them known, {{'cma': {(17 - known) * 2 * 2 * 4 * 16 * 32}}} read"
        for number, known in enumerate([0, 12, 12])
    ]
    assert [line.split("; ")[0] for line in requests] == read
    assert all(line.endswith(", as in one process") for line in requests)
    assert "closed or freed the memory" in late


def test_weight_sync(address: dict[str, str]) -> None:
    """2 weights of 8 x 6 floats, the halves of which are 4 x 6 at the trainers and 8 x 3 at the rollout actors."""
    whole, recut, late = programs.run("weight_sync.py", "--layers=2", "--rows=8", "--columns=6", "--versions=2", **address)
    assert whole == "whole: 2 versions of 2 weights into the parameters of 2 rollout actors, equal"
    assert recut == "re-cut: 2 versions, 2 parts by rows read as 2 by columns, [192, 192] bytes a version, equal"
    assert "closed or freed the memory" in late


def test_pipeline(address: dict[str, str]) -> None:
    """3 micro-batches of 5 x 16 floats."""
    made, moved = programs.run("pipeline.py", "--stages=3", "--layers=1", "--width=16", "--rows=5", "--batches=3", **address)
    assert made == "3 micro-batches through 3 stages: equal to what one process makes"
    assert moved == f"fetched by each stage: {[0] + [3 * 4 * 5 * 16] * 2} bytes"


def test_driver_get(address: dict[str, str]) -> None:
    """3 tensors of 4 x 1024 floats."""
    assert programs.run("driver_get.py", "--rows=4", **address) == [
        f"the driver got ['up', 'down', 'gate'] on the cpu, {{'cma': {3 * 4 * 4 * 1024}}}",
        "once more, into tensors of its own: equal True",
        "in asyncio: done",
        "a task read 2.0",
        "the actor read 30.0 of the driver's own",
    ]


def test_from_nixl(address: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(documents.block("from_nixl.md", "class Trainer"))
    assert programs.run(str(program), **address) == ["1000000.0 1000000.0"]
