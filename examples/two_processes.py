"""Two processes, without Ray and without torch: one shows memory and publishes an object, the other reads both.

Run it: python examples/two_processes.py
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

import ray_hixl

MIB = 1 << 20


def own(pipe: Connection) -> None:
    """The owner: its Python takes no part in what is read."""
    with ray_hixl.Engine() as engine:
        region = engine.register(bytearray(b"x" * MIB))  # for as long as `region` is kept
        metadata = engine.publish([b"first", bytearray(b"second")])
        pipe.send((engine.descriptor, region.descriptor, metadata))  # bytes, and secrets: who has them can read
        pipe.recv()  # until the reader is done
        engine.release(metadata)  # frees the object; closing the engine would, too


def main() -> None:
    """The reader."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    owner = context.Process(target=own, args=(there,))
    owner.start()
    owner_descriptor, region_descriptor, metadata = here.recv()
    with ray_hixl.Engine() as engine:
        peer = engine.connect(owner_descriptor)
        target = engine.empty(MIB)
        peer.read([(target.region, 0, peer.region(region_descriptor), 0, MIB)])
        print("read", bytes(memoryview(target)[:4]), "by", peer.path(remote=peer.region(region_descriptor)).transport)
        fetch = engine.fetch(metadata)
        print("fetched", [bytes(memoryview(part)) for part in fetch.result()], "by", fetch.bytes_by_transport())
    here.send("done")
    owner.join()


if __name__ == "__main__":
    main()
