"""``ray-hixl demo``: the main job, with every byte compared and every counter shown."""

from __future__ import annotations

import time
from typing import Any

import ray
import torch
from rich.console import Console
from rich.table import Table

import ray_hixl

ray_hixl.register()

MIB = 1 << 20


def make(shape: str, seed: int) -> list[torch.Tensor]:
    """The tensors of a shape, out of a seed: source and consumer make the same ones."""
    generator = torch.Generator().manual_seed(seed)
    if shape == "blocks":  # a paged KV cache: many small tensors
        return [torch.randint(0, 255, (32 * 1024,), dtype=torch.uint8, generator=generator) for _ in range(1024)]
    count = int(shape) * MIB // 4
    return [torch.randint(-(2**31), 2**31 - 1, (count,), dtype=torch.int32, generator=generator)]


def differs(got: list[torch.Tensor], shape: str, seed: int) -> str | None:
    """What is wrong with the tensors that arrived; None if every byte is right."""
    expected = make(shape, seed)
    if len(got) != len(expected):
        return f"{len(got)} tensors instead of {len(expected)}"
    wrong = [index for index, pair in enumerate(zip(got, expected, strict=True)) if not torch.equal(*pair)]
    return f"tensors {wrong[:5]} differ" if wrong else None


@ray.remote(enable_tensor_transport=True)
class Source:
    """Makes tensors; they stay here until somebody fetches them."""

    @ray.method(tensor_transport="hixl")
    def make(self, shape: str, seed: int) -> list[torch.Tensor]:
        return make(shape, seed)

    def make_plain(self, shape: str, seed: int) -> list[torch.Tensor]:
        return make(shape, seed)

    def stats(self) -> dict[str, Any]:
        return ray_hixl.stats()


@ray.remote(enable_tensor_transport=True)
class Consumer:
    """Compares what it is handed with what the seed gives."""

    def check(self, tensors: list[torch.Tensor], shape: str, seed: int) -> str | None:
        return differs(tensors, shape, seed)

    def touch(self, tensors: list[torch.Tensor]) -> int:
        return len(tensors)

    def stats(self) -> dict[str, Any]:
        return ray_hixl.stats()


def _timed(source: Any, consumer: Any, shape: str, seed: int, plain: bool) -> float:
    """Seconds from submitting both calls, tensors made beforehand, to the consumer's reply; the best of three."""
    best = float("inf")
    for _ in range(3):
        reference = (source.make_plain if plain else source.make).remote(shape, seed)
        ray.wait([reference], fetch_local=False)
        start = time.perf_counter()
        ray.get(consumer.touch.remote(reference))
        best = min(best, time.perf_counter() - start)
        del reference
    return best


def run(mebibytes: int, seed: int) -> int:
    """Runs it; 0 if every byte was right and the counters agree with the payload."""
    console = Console()
    console.print("starting Ray and two actors ...")
    ray.init(log_to_driver=False, include_dashboard=False)
    source, consumer = Source.remote(), Consumer.remote()  # type: ignore[attr-defined]
    shapes = {"4": "4 MiB tensor", str(mebibytes): f"{mebibytes} MiB tensor", "blocks": "1024 tensors of 32 KiB"}
    failures, payload = [], 0
    for shape, what in shapes.items():
        console.print(f"comparing: {what}, from actor to actor and from actor to driver ...")
        reference = source.make.remote(shape, seed)
        if wrong := ray.get(consumer.check.remote(reference, shape, seed)):
            failures.append(f"actor to actor, {what}: {wrong}")
        if wrong := differs(ray.get(reference), shape, seed):
            failures.append(f"actor to driver, {what}: {wrong}")
        payload += sum(tensor.nbytes for tensor in make(shape, seed))
    moved = {"consumer": ray.get(consumer.stats.remote())["fetched"], "driver": ray_hixl.stats()["fetched"]}
    for place, by_transport in moved.items():
        total = sum(by_transport.values())
        console.print(f"{place}: " + ", ".join(f"{kind} moved {count / MIB:.1f} MiB" for kind, count in by_transport.items() if count))
        if total != payload:
            failures.append(f"the {place} counted {total} bytes, the payload had {payload}")
    produced = ray.get(source.stats.remote())
    console.print(f"source: {produced['resolved']} objects resolved, {produced['served_bytes'] / MIB:.1f} MiB served by itself")
    table = Table("handoff, actor to actor", "hixl", "object store", title="best of three, tensors ready beforehand")
    for shape, what in shapes.items():
        console.print(f"timing: {what}, by hixl and by the object store ...")
        ours, theirs = (_timed(source, consumer, shape, seed, plain) for plain in (False, True))
        table.add_row(what, f"{ours * 1e3:.1f} ms", f"{theirs * 1e3:.1f} ms")
    console.print(table)
    ray.shutdown()
    for failure in failures:
        console.print(f"[red]WRONG[/red] {failure}")
    if not failures:
        console.print(f"Every byte was right: {2 * payload / MIB:.1f} MiB compared.")
    return 1 if failures else 0
