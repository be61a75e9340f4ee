"""What ray-hixl's own code costs beside a handoff, timed within one process: publishing many tensors, their metadata, and the metrics."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

import ray_hixl
from ray_hixl.ray import reporter
from ray_hixl.ray.metadata import TransferMetadata
from ray_hixl.ray.records import FetchRecord

_TENSORS = 10_000
_TRANSFERS = 1000


def measure(rounds: int) -> dict[str, float]:
    """Medians: seconds and bytes for each of 10 000 tensors of one layout (``publish_s``, ``metadata_bytes``) and of a layout each
    (``..._of_own_layouts``); seconds that the thread which fetches spends on the record of a transfer (``metrics_s``).
    """
    memory = torch.empty(2 * _TENSORS, dtype=torch.uint8)
    alike = [memory[i : i + 8] for i in range(_TENSORS)]
    different = [memory[i : i + 1 + i] for i in range(_TENSORS)]
    with ray_hixl.Engine() as engine:
        costs = {}
        for name, tensors in (("", alike), ("_of_own_layouts", different)):
            packed = engine.publish(tensors)
            costs[f"metadata_bytes{name}"] = len(packed) / _TENSORS
            costs[f"publish_s{name}"] = _median(rounds, partial(_publish, engine, tensors)) / _TENSORS
            engine.release(packed)
        costs["metrics_s"] = _median(rounds, _records(engine)) / _TRANSFERS
        return costs


def _publish(engine: ray_hixl.Engine, tensors: list[torch.Tensor]) -> None:
    engine.release(engine.publish(tensors))


def _records(engine: ray_hixl.Engine) -> Callable[[], None]:
    packed = engine.publish([torch.zeros(8)])
    fetch = engine.fetch(packed)
    fetch.result()
    communicator = TransferMetadata()

    def report() -> None:
        for _ in range(_TRANSFERS):
            record = FetchRecord("object", packed, communicator)
            record.arrive()
            record.end(fetch)
            reporter.report(record)

    return report


def _median(rounds: int, call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
