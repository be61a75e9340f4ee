"""Ray level: handoffs between actors of one cluster, by hixl and by everything else Ray offers on CPU memory.

Measured from the driver submitting the producer's call to the driver holding the consumer's reply. The producer's tensors exist
beforehand, so that making them is nobody's cost; the consumer reads one element of each tensor.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import torch

import ray_hixl
from ray_hixl.bench import floor, own_costs
from ray_hixl.bench.rounds import Row, measure
from ray_hixl.bench.shapes import KIB, MIB, Shape

ray_hixl.register()
floor.register()

_ZERO_COPY = {"env_vars": {"RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1"}}
_FAN_OUT = 4
_REFS = 100
_WARMUP = 2
_FLOOR = floor.NAME


class Producer:
    """Holds the tensors of a shape and hands the same ones out at every call."""

    def __init__(self) -> None:
        self._tensors: list[torch.Tensor] = []

    def prepare(self, shape: Shape) -> None:
        self._tensors = []  # those of the shape before
        generator = torch.Generator().manual_seed(3)
        # Every tensor of its own memory: the plain object store would pickle a view's whole storage.
        self._tensors = [torch.randint(0, 255, (shape.block,), dtype=torch.uint8, generator=generator) for _ in range(shape.count)]
        random.Random(1).shuffle(self._tensors)

    def prepare_many(self, count: int, size: int) -> None:
        self._tensors = [torch.full((size,), index % 251, dtype=torch.uint8) for index in range(count)]

    def plain(self) -> list[torch.Tensor]:
        return self._tensors

    @ray.method(tensor_transport="hixl")
    def hixl(self) -> list[torch.Tensor]:
        return self._tensors

    @ray.method(tensor_transport=_FLOOR)
    def floor(self) -> list[torch.Tensor]:
        return self._tensors

    @ray.method(tensor_transport="gloo")
    def gloo(self) -> list[torch.Tensor]:
        return self._tensors

    @ray.method(tensor_transport="hixl")
    def one(self, index: int) -> torch.Tensor:
        return self._tensors[index]

    @ray.method(tensor_transport=_FLOOR)
    def one_of_the_floor(self, index: int) -> torch.Tensor:
        return self._tensors[index]

    def one_plain(self, index: int) -> torch.Tensor:
        return self._tensors[index]

    def stats(self) -> dict[str, Any]:
        return ray_hixl.stats()


class Consumer:
    """Touches what it gets."""

    def use(self, tensors: list[torch.Tensor]) -> int:
        return sum(int(tensor.view(-1)[0]) for tensor in tensors)

    def use_many(self, *tensors: torch.Tensor) -> int:
        return sum(int(tensor.view(-1)[0]) for tensor in tensors)

    def stats(self) -> dict[str, Any]:
        return ray_hixl.stats()


class FetchOwner:
    """Publishes what a producer has straight through an Engine, for the comparison without Ray's control path."""

    def __init__(self) -> None:
        self._engine = ray_hixl.Engine()
        self._published: list[bytes] = []

    def publish(self, shape: Shape) -> bytes:
        while self._published:
            self._engine.release(self._published.pop())
        memory = torch.randint(0, 255, (shape.span,), dtype=torch.uint8)
        self._published.append(self._engine.publish([memory[start : start + shape.block] for start in shape.offsets(1)]))
        return self._published[0]


def _actor(kind: type, **options: Any) -> Any:
    # In the decorator: given to .options() the flag comes too late for transports with two sides.
    return ray.remote(enable_tensor_transport=True, **options)(kind).remote()


def _pair(**options: Any) -> tuple[Any, Any]:
    return _actor(Producer, **options), _actor(Consumer, **options)


def _gloo_pair() -> tuple[Any, Any]:
    from ray.experimental.collective import create_collective_group

    producer, consumer = _pair()
    create_collective_group([producer, consumer], backend="torch_gloo")
    return producer, consumer


def run(shapes: list[Shape], rounds: int, progress: Callable[[str], None]) -> tuple[list[Row], dict[str, Any]]:
    """Rows of all contestants, and what is judged beside them (Engine.fetch, our share of a small handoff)."""
    ray.init(log_to_driver=False, include_dashboard=False)
    try:
        progress("Ray level, what is ours alone")
        costs = own_costs.measure(rounds)  # before there is anything that Ray would tidy up meanwhile
        pairs = {
            "hixl": _pair(),
            "object store": _pair(),
            "object store, zero-copy": _pair(runtime_env=_ZERO_COPY),
            "gloo": _gloo_pair(),
            "floor": _pair(),
        }
        owner = ray.remote(FetchOwner).remote()
        fetching = ray_hixl.Engine()
        rows, share = [], {}
        for shape in shapes:
            progress(f"Ray level, {shape.name}")
            for producer, _ in pairs.values():
                ray.get(producer.prepare.remote(shape))
            contestants = {name: _handoff(name, *pair) for name, pair in pairs.items()}
            contestants["Engine.fetch"] = _engine_fetch(fetching, ray.get(owner.publish.remote(shape)))
            rows += measure(shape.name, shape.bytes, contestants, rounds, _WARMUP)
            share[shape.name] = statistics.median(_own_share(pairs["hixl"], contestants["hixl"]) for _ in range(rounds))
        progress("Ray level, fan-out and many references")
        rows += _fan_out(pairs["hixl"][0], pairs["object store"][0], rounds)
        rows += _many_references({name: pairs[name] for name in ("hixl", "object store", "floor")}, rounds)
        return rows, {"our_seconds_per_handoff": share, "own_costs": costs}
    finally:
        ray.shutdown()


def _handoff(name: str, producer: Any, consumer: Any) -> Callable[[], None]:
    method = {"hixl": producer.hixl, "gloo": producer.gloo, "floor": producer.floor}.get(name, producer.plain)
    return lambda: ray.get(consumer.use.remote(method.remote()))


def _engine_fetch(engine: ray_hixl.Engine, metadata: bytes) -> Callable[[], None]:
    """Ordinary source, recycled destination, between two processes: what the engine takes without Ray."""
    return lambda: _discard(engine.fetch(metadata).result())


def _discard(tensors: list[Any]) -> None:
    tensors.clear()


def _own_share(pair: tuple[Any, Any], handoff: Callable[[], None]) -> float:
    """Of one handoff."""
    before = _own_seconds(pair)
    handoff()
    return _own_seconds(pair) - before


def _own_seconds(pair: tuple[Any, Any]) -> float:
    """Seconds spent inside our transport class so far, in both actors and here."""
    stats = [*ray.get([actor.stats.remote() for actor in pair]), ray_hixl.stats()]
    return float(sum(timer["seconds"] for one in stats for timer in one["ray"].values()))


def _fan_out(ours: Any, theirs: Any, rounds: int) -> list[Row]:
    shape = Shape(f"256 MiB to {_FAN_OUT} actors", 1, 256 * MIB)
    ray.get([ours.prepare.remote(shape), theirs.prepare.remote(shape)])
    consumers = [_actor(Consumer) for _ in range(_FAN_OUT)]

    def through(method: Any) -> Callable[[], None]:
        def run_once() -> None:
            reference = method.remote()
            ray.get([consumer.use.remote(reference) for consumer in consumers])

        return run_once

    return measure(shape.name, _FAN_OUT * shape.bytes, {"hixl": through(ours.hixl), "object store": through(theirs.plain)}, rounds)


def _many_references(pairs: dict[str, tuple[Any, Any]], rounds: int) -> list[Row]:
    size = 64 * KIB
    to_actor: dict[str, Callable[[], None]] = {}
    to_driver: dict[str, Callable[[], None]] = {}
    for name, (producer, consumer) in pairs.items():
        ray.get(producer.prepare_many.remote(_REFS, size))
        give = {"hixl": producer.one, "floor": producer.one_of_the_floor}.get(name, producer.one_plain)
        references = [give.remote(index) for index in range(_REFS)]
        ray.wait(references, num_returns=_REFS, fetch_local=False)
        to_actor[name] = partial(_use_many, consumer, references)
        to_driver[name] = partial(_get_many, references)
    return [
        *measure(f"{_REFS} references of 64 KiB", _REFS * size, to_actor, rounds),
        *measure("100 references in one ray.get", _REFS * size, to_driver, rounds),
    ]


def _use_many(consumer: Any, references: list[Any]) -> None:
    ray.get(consumer.use_many.remote(*references))


def _get_many(references: list[Any]) -> None:
    _discard(ray.get(references))
