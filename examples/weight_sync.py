"""A trainer's weights go to rollout actors, version after version: whole ones by Ray references, re-cut ones by the Engine API.

Whole: each rollout actor receives right into its live parameters. Re-cut: trainers hold rows and rollout actors columns of the same
weights, and each of these reads just its part out of every trainer.

Run it: python examples/weight_sync.py [--device npu]
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import ray
import torch

import ray_hixl
from ray_hixl.process import engine

ray_hixl.register()  # here, before "hixl" is named


class Shape(NamedTuple):
    """Of a model: so many weights of this size."""

    layers: int
    rows: int
    columns: int
    device: str

    def weights(self, seed: int, row_parts: int = 1, column_parts: int = 1) -> list[torch.Tensor]:
        """One part of each weight."""
        random = torch.Generator().manual_seed(seed)
        size = (self.rows // row_parts, self.columns // column_parts)
        return [torch.randn(size, generator=random).to(self.device) for _ in range(self.layers)]


class Holder:
    """Who holds weights."""

    weights: list[torch.Tensor]

    def show(self) -> list[torch.Tensor]:
        """For the comparison at the end, by the object store."""
        return [weight.cpu() for weight in self.weights]


@ray.remote(enable_tensor_transport=True)
class Trainer(Holder):
    def __init__(self, shape: Shape) -> None:
        self.weights = shape.weights(seed=1)
        for weight in self.weights:
            ray_hixl.register_memory(weight)  # NPU memory is published without a copy then; CPU memory always is

    def step(self) -> None:
        """Trains, once nobody can read the former version any more."""
        for weight in self.weights:
            ray.experimental.wait_tensor_freed(weight)
            weight += 0.5

    def publish(self) -> list[ray.ObjectRef]:
        """A reference in a list: whoever gets the list decides when, and into what, to get the weights."""
        return [ray.put(self.weights, _tensor_transport="hixl")]


@ray.remote(enable_tensor_transport=True)
class Rollout(Holder):
    def __init__(self, shape: Shape) -> None:
        self.weights = shape.weights(seed=2)  # live parameters
        for weight in self.weights:
            ray_hixl.register_memory(weight)  # NPU memory is received into directly then

    def update(self, published: list[ray.ObjectRef]) -> None:
        ray.experimental.set_target_for_ref(published[0], self.weights)
        received = ray.get(published[0])
        assert all(one is other for one, other in zip(received, self.weights, strict=True))


class Address(NamedTuple):
    """Of a trainer that holds rows: secrets, both."""

    engine: bytes
    weights: list[bytes]


@ray.remote
class RowTrainer(Holder):
    def __init__(self, shape: Shape, rank: int, ranks: int) -> None:
        self.weights = shape.weights(seed=10 + rank, row_parts=ranks)
        self.regions = [engine().register(weight) for weight in self.weights]
        self.version = engine().register(bytearray(1))

    def address(self) -> Address:
        return Address(engine().descriptor, [region.descriptor for region in self.regions])

    def step(self) -> bytes:
        """Trains. Returns the version, as a region that is open for as long as the weights stay as they are."""
        self.version.close()
        for weight in self.weights:
            weight += 0.5
        if weight.device.type == "npu":
            torch.npu.current_stream().synchronize()  # a READ waits for no stream
        self.version = engine().register(bytearray(1))
        return self.version.descriptor


@ray.remote
class ColumnRollout(Holder):
    def __init__(self, shape: Shape, rank: int, ranks: int, trainers: list[Address]) -> None:
        self.weights = shape.weights(seed=20 + rank, column_parts=ranks)
        self.regions = [engine().register(weight) for weight in self.weights]
        self.peers = [engine().connect(trainer.engine) for trainer in trainers]
        # Once for all versions: an op for each row, of which a part lies there and all of it here.
        rows, here, there = shape.rows // len(trainers), 4 * shape.columns // ranks, 4 * shape.columns
        row, layer = torch.arange(rows).repeat(shape.layers), torch.arange(shape.layers).repeat_interleave(rows)
        self.batches = [
            peer.prepare(
                *(self.regions, layer, (number * rows + row) * here),
                *([peer.region(weight) for weight in trainer.weights], layer, row * there + rank * here),
                torch.full_like(row, here),
            )
            for number, (peer, trainer) in enumerate(zip(self.peers, trainers, strict=True))
        ]

    def update(self, versions: list[bytes]) -> int:
        """Reads all parts, of so many bytes. :raises InvalidRegion: a trainer has gone on meanwhile; what is here is of no version."""
        for peer, batch, version in zip(self.peers, self.batches, versions, strict=True):
            peer.read(batch)
            peer.read([(self.regions[0], 0, peer.region(version), 0, 0)])  # no bytes: is that version still there, after all have come?
        return sum(batch.nbytes for batch in self.batches)


def whole(shape: Shape, versions: int, place: dict[str, object]) -> None:
    trainer = Trainer.options(**place).remote(shape)
    rollouts = [Rollout.options(**place).remote(shape) for _ in range(2)]
    for _ in range(versions):
        ray.get(trainer.step.remote())
        published = trainer.publish.remote()
        ray.get([rollout.update.remote(published) for rollout in rollouts])
        del published  # the last reference: only then it is freed, and the trainer may go on
    expected = ray.get(trainer.show.remote())
    for rollout in rollouts:
        assert all(torch.equal(*pair) for pair in zip(ray.get(rollout.show.remote()), expected, strict=True))
    print(f"whole: {versions} versions of {len(expected)} weights into the parameters of {len(rollouts)} rollout actors, equal")


def recut(shape: Shape, versions: int, place: dict[str, object]) -> None:
    trainers = [RowTrainer.options(**place).remote(shape, rank, 2) for rank in range(2)]
    addresses = ray.get([trainer.address.remote() for trainer in trainers])
    rollouts = [ColumnRollout.options(**place).remote(shape, rank, 2, addresses) for rank in range(2)]
    for _ in range(versions):
        version = ray.get([trainer.step.remote() for trainer in trainers])
        counts = ray.get([rollout.update.remote(version) for rollout in rollouts])
    expected = [torch.cat(parts) for parts in zip(*ray.get([trainer.show.remote() for trainer in trainers]), strict=True)]
    arrived = [torch.cat(parts, dim=1) for parts in zip(*ray.get([rollout.show.remote() for rollout in rollouts]), strict=True)]
    assert all(torch.equal(*pair) for pair in zip(arrived, expected, strict=True))
    assert sum(counts) == sum(weight.nbytes for weight in expected)
    print(f"re-cut: {versions} versions, 2 parts by rows read as 2 by columns, {counts} bytes a version, equal")

    ray.get(trainers[1].step.remote())
    try:
        ray.get(rollouts[0].update.remote(version))
        raise AssertionError("two versions were mixed")
    except ray_hixl.InvalidRegion as error:
        print(f"a trainer that has gone on: {error.cause}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cpu", help="cpu or npu")
    options.add_argument("--layers", type=int, default=8)
    options.add_argument("--rows", type=int, default=1024)
    options.add_argument("--columns", type=int, default=1024)
    options.add_argument("--versions", type=int, default=3)
    wanted = options.parse_args()

    ray.init(runtime_env=ray_hixl.runtime_env())
    place = {"resources": {"NPU": 1}, "num_cpus": 0} if wanted.device == "npu" else {}  # num_cpus: else each holds a core, too
    shape = Shape(wanted.layers, wanted.rows, wanted.columns, wanted.device)
    whole(shape, wanted.versions, place)
    recut(shape, wanted.versions, place)


if __name__ == "__main__":
    main()
