"""A loop of one's own, without Ray: feeders fill buffers, a consumer reads the next ones while it works on those before.

Pipes carry tickets of some bytes; the engine reads the buffers. Each feeder is a process with two buffers, so that it fills one while the
other one is read.

Run it: python examples/custom_loop.py [--device npu]
"""

from __future__ import annotations

import argparse
import multiprocessing
from multiprocessing.connection import Connection

import torch

import ray_hixl


def content(feeder: int, number: int, nbytes: int) -> torch.Tensor:
    """What a feeder loads: out of a seed, so that the consumer can compare it."""
    return torch.randint(0, 256, (nbytes,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1000 * feeder + number))


def feed(pipe: Connection, feeder: int, rounds: int, nbytes: int, device: str) -> None:
    """A feeder's whole life."""
    with ray_hixl.Engine() as engine:
        buffers = [torch.zeros(nbytes, dtype=torch.uint8, device=device) for _ in range(2)]
        regions = [engine.register(buffer) for buffer in buffers]  # for as long as they are kept
        pipe.send((engine.descriptor, [region.descriptor for region in regions]))  # secrets: who has them can read
        for number in range(rounds):
            if number > 1:
                pipe.recv()  # this buffer was read
            buffers[number % 2].copy_(content(feeder, number, nbytes))
            if device != "cpu":
                torch.npu.current_stream(device).synchronize()  # a READ waits for no stream
            pipe.send(number)  # the ticket
        for _ in range(min(rounds, 2)):
            pipe.recv()


class Feeder:
    """What the consumer has of one: targets beside its buffers, and a batch for each pair, checked once for all rounds."""

    def __init__(self, engine: ray_hixl.Engine, pipe: Connection, nbytes: int, device: str) -> None:
        descriptor, regions = pipe.recv()
        self.pipe = pipe
        self.peer = engine.connect(descriptor)
        self.targets = [torch.zeros(nbytes, dtype=torch.uint8, device=device) for _ in regions]
        self.own = [engine.register(target) for target in self.targets]
        self.batches = [
            self.peer.prepare([(own, 0, self.peer.region(region), 0, nbytes)]) for own, region in zip(self.own, regions, strict=True)
        ]

    def start(self) -> None:
        """Starts reading what the next ticket is for."""
        self.number = self.pipe.recv()
        self.read = self.peer.read_async(self.batches[self.number % 2])

    def take(self, last: bool) -> torch.Tensor:
        """What was read; stays as it is until the next ``take``. The next read is under way then. :raises HixlError: how it failed."""
        self.read.wait()
        self.pipe.send("read")
        full = self.targets[self.number % 2]
        if not last:
            self.start()
        return full


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cpu", help="cpu, or npu: the consumer has npu:0, feeders those after it")
    options.add_argument("--feeders", type=int, default=3)
    options.add_argument("--rounds", type=int, default=6)
    options.add_argument("--nbytes", type=int, default=4 << 20)
    wanted = options.parse_args()

    devices = ["cpu" if wanted.device == "cpu" else f"npu:{index}" for index in range(1 + wanted.feeders)]
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for index in range(wanted.feeders):
        here, there = context.Pipe()
        arguments = (there, index, wanted.rounds, wanted.nbytes, devices[1 + index])
        processes.append(context.Process(target=feed, args=arguments, daemon=True))
        processes[-1].start()
        pipes.append(here)

    with ray_hixl.Engine() as engine:
        feeders = [Feeder(engine, pipe, wanted.nbytes, devices[0]) for pipe in pipes]
        for feeder in feeders:
            feeder.start()
        for number in range(wanted.rounds):
            for index, feeder in enumerate(feeders):
                full = feeder.take(last=number + 1 == wanted.rounds)
                assert torch.equal(full.cpu(), content(index, number, wanted.nbytes))  # stands for the work; reads go on meanwhile
        moved = {transport: count for transport, count in engine.stats()["fetched"].items() if count}
        print(f"{wanted.rounds} rounds of {wanted.feeders} feeders, every byte compared: {moved}")
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
