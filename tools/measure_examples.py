#!/usr/bin/env python3
"""Times the hand-offs of examples/ at larger sizes, by hixl and by what Ray has beside it, and prints the tables of docs/use_cases.

The actors are the examples' own; what they compute is left out. Contestants take turns in every round, so that a slow minute of the machine
hits all of them. The source's tensors exist beforehand, and the consumer reads an element of each.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_EXAMPLES = str(Path(__file__).resolve().parent.parent / "examples")
sys.path.insert(0, _EXAMPLES)
os.environ["PYTHONPATH"] = os.pathsep.join([_EXAMPLES, *filter(None, [os.environ.get("PYTHONPATH")])])  # workers import them, too

import driver_get  # noqa: E402
import paged_kv  # noqa: E402
import pipeline  # noqa: E402
import prefill_decode  # noqa: E402
import ray  # noqa: E402
import torch  # noqa: E402
import weight_sync  # noqa: E402
from ray.experimental.collective import create_collective_group  # noqa: E402

import ray_hixl  # noqa: E402
from ray_hixl.bench.rounds import busy_cores, measure  # noqa: E402
from ray_hixl.process import engine  # noqa: E402

Contestants = dict[str, Callable[[], object]]
WAYS = {"hixl": "hixl", "object store": None, "GLOO": "GLOO"}


def give(actor: Any, transport: str | None) -> ray.ObjectRef:
    """What it keeps, by that transport."""
    call = actor.__ray_call__ if transport is None else actor.__ray_call__.options(tensor_transport=transport)
    return call.remote(lambda self: self.kept)


def keep(actor: Any, count: int, *size: int) -> None:
    """So many tensors."""
    ray.get(actor.__ray_call__.remote(lambda self: setattr(self, "kept", [torch.rand(size) for _ in range(count)])))


def look(self: Any, tensors: list[torch.Tensor]) -> float:
    return sum(tensor.view(-1)[0].item() for tensor in tensors)


def of_prefill_decode() -> tuple[str, Contestants]:
    model = (1, 8, 256, "cpu")
    prefill, decode = prefill_decode.Prefill.remote(*model), prefill_decode.Decode.remote(*model)
    create_collective_group([prefill, decode], backend="torch_gloo")
    keep(prefill, 32, 2, 8, 512, 128)
    contestants: Contestants = {
        name: lambda way=way: ray.get(decode.__ray_call__.remote(look, give(prefill, way))) for name, way in WAYS.items()
    }
    contestants["the two calls alone"] = lambda: ray.get(decode.__ray_call__.remote(look, prefill.__ray_call__.remote(lambda self: [])))
    return "a KV cache of 32 layers x 4 MiB", contestants


def of_paged_kv() -> tuple[str, Contestants]:
    blocks, layers = 128, 32
    model = (layers, 8, 256, "cpu")
    prefill = paged_kv.Prefill.remote(blocks, *model)
    decode = paged_kv.Decode.remote(ray.get(prefill.address.remote()), blocks, *model)

    def lease(self: Any) -> bytes:
        made = engine().register(bytearray(1))
        self.leases[made.descriptor] = made
        return made.descriptor

    leased = ray.get(prefill.__ray_call__.remote(lease))

    def read(self: Any, count: int) -> None:
        self._read(list(range(count)), list(range(count)), leased)

    def load(self: Any) -> list[torch.Tensor]:
        return self.cache.load(list(range(blocks)), blocks * paged_kv.BLOCK)

    def store(self: Any, cache: list[torch.Tensor]) -> None:
        self.cache.store(list(range(blocks)), cache)

    return f"a request of {blocks} blocks x {layers} layers x 32 KiB", {
        "hixl": lambda: ray.get(decode.__ray_call__.remote(read, blocks)),
        "hixl, 3 of 4 blocks known": lambda: ray.get(decode.__ray_call__.remote(read, blocks // 4)),
        "object store (joined, sent, cut)": lambda: ray.get(decode.__ray_call__.remote(store, prefill.__ray_call__.remote(load))),
    }


def of_weight_sync() -> tuple[str, Contestants]:
    shape = weight_sync.Shape(8, 2048, 2048, "cpu")
    trainer, rollout = weight_sync.Trainer.remote(shape), weight_sync.Rollout.remote(shape)
    create_collective_group([trainer, rollout], backend="torch_gloo")

    def copy(self: Any, weights: list[torch.Tensor]) -> None:
        for own, weight in zip(self.weights, weights, strict=True):
            own.copy_(weight)

    return "8 weights x 16 MiB into live parameters", {
        "hixl": lambda: ray.get(rollout.update.remote(trainer.publish.remote())),
        "object store, and a copy": lambda: ray.get(rollout.__ray_call__.remote(copy, trainer.show.remote())),
        "GLOO, and a copy": lambda: ray.get(rollout.__ray_call__.remote(copy, trainer.show.options(tensor_transport="GLOO").remote())),
    }


def of_recut() -> tuple[str, Contestants]:
    shape = weight_sync.Shape(8, 2048, 2048, "cpu")
    trainers = [weight_sync.RowTrainer.remote(shape, rank, 2) for rank in range(2)]
    rollout = weight_sync.ColumnRollout.remote(shape, 0, 2, ray.get([trainer.address.remote() for trainer in trainers]))
    versions = ray.get([trainer.step.remote() for trainer in trainers])

    def cut(self: Any, *parts: list[torch.Tensor]) -> None:
        for own, rows in zip(self.weights, zip(*parts, strict=True), strict=True):
            torch.cat([part[:, : own.shape[1]] for part in rows], out=own)

    return "half of the columns of 8 weights x 16 MiB, 16384 rows of 4 KiB", {
        "hixl, slices": lambda: ray.get(rollout.update.remote(versions)),
        "object store, whole weights, and a cut": lambda: ray.get(
            rollout.__ray_call__.remote(cut, *[trainer.show.remote() for trainer in trainers])
        ),
    }


def of_pipeline() -> tuple[str, Contestants]:
    stages = [pipeline.Stage.remote(range(0), 512, "cpu") for _ in range(3)]
    create_collective_group(stages, backend="torch_gloo")
    keep(stages[0], 1, 2048, 512)

    def run(way: str | None) -> None:
        ends = []
        for _ in range(6):
            first = give(stages[0], way)
            pass_on = stages[1].__ray_call__ if way is None else stages[1].__ray_call__.options(tensor_transport=way)
            ends.append(stages[2].__ray_call__.remote(look, pass_on.remote(lambda self, tensors: tensors, first)))
        ray.get(ends)

    return "6 micro-batches x 4 MiB through 3 stages", {name: lambda way=way: run(way) for name, way in WAYS.items()}


def of_driver_get() -> tuple[str, Contestants]:
    model = driver_get.Model.remote(4096, "cpu")
    ray.get(model.__ray_call__.remote(lambda self: setattr(self, "kept", self.weights)))
    targets = list(ray.get(model.snapshot.remote()).values())

    def into_targets() -> None:
        snapshot = model.snapshot.remote()
        ray.experimental.set_target_for_ref(snapshot, targets)
        ray.get(snapshot)

    return "a dict of 3 x 16 MiB to the driver", {
        "hixl": lambda: ray.get(give(model, "hixl")),
        "hixl, into targets": into_targets,
        "object store": lambda: ray.get(give(model, None)),
    }


def feed(pipe: Connection, nbytes: int) -> None:
    """Shows its memory, then sends it through the pipe at each request."""
    memory = bytearray(os.urandom(nbytes))
    with ray_hixl.Engine() as own:
        region = own.register(memory)
        pipe.send((own.descriptor, region.descriptor))
        with contextlib.suppress(EOFError):  # the other side has ended
            while pipe.recv():
                pipe.send_bytes(memory)


def of_custom_loop() -> tuple[str, Contestants]:
    nbytes = 4 << 20
    here, there = multiprocessing.get_context("spawn").Pipe()
    multiprocessing.get_context("spawn").Process(target=feed, args=(there, nbytes), daemon=True).start()
    descriptor, region = here.recv()
    peer = engine().connect(descriptor)
    target = bytearray(nbytes)
    batch = peer.prepare([(engine().register(target), 0, peer.region(region), 0, nbytes)])

    def by_pipe() -> None:
        here.send(True)
        here.recv_bytes_into(target)

    return "a buffer of 4 MiB between two processes", {"hixl": lambda: peer.read(batch), "the pipe itself": by_pipe}


CASES = {
    "prefill_decode": of_prefill_decode,
    "paged_kv": of_paged_kv,
    "weight_sync": of_weight_sync,
    "weight_sync, re-cut": of_recut,
    "pipeline": of_pipeline,
    "driver_get": of_driver_get,
    "custom_loop": of_custom_loop,
}


def table(rows: list[Any]) -> Iterator[str]:
    yield "| " + " | ".join(row.contestant for row in rows) + " |"
    yield "|" + "---|" * len(rows)
    yield "| " + " | ".join(f"{row.median * 1e3:.3g} ({row.best * 1e3:.3g})" for row in rows) + " |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=11)
    options.add_argument("--case", choices=list(CASES), help="this one alone")
    wanted = options.parse_args()
    print(
        f"other work on this machine keeps {busy_cores():.1f} of {os.cpu_count()} cores busy; median (best) in ms of {wanted.rounds} rounds"
    )
    ray.init(runtime_env=ray_hixl.runtime_env(), include_dashboard=False, log_to_driver=False)
    for name in [wanted.case] if wanted.case else CASES:
        what, contestants = CASES[name]()
        rows = measure(name, 0, contestants, wanted.rounds)
        print(f"\n{name}: {what}", *table(rows), sep="\n", flush=True)
        del contestants


if __name__ == "__main__":
    main()
