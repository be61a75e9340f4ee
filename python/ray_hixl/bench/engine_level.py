"""Engine level: READs between two processes without Ray."""

from __future__ import annotations

import multiprocessing
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from ray_hixl import _core
from ray_hixl.bench import peers
from ray_hixl.bench.rounds import Row, measure
from ray_hixl.bench.shapes import Shape
from ray_hixl.engine import Engine
from ray_hixl.options import Options

_SOURCE_SEED, _TARGET_SEED = 1, 2


def owner_main(pipe: Connection, shape: Shape) -> None:
    """The owner's process: the same bytes in ordinary memory, in the source arena, and behind a plain TCP socket."""
    data = np.random.default_rng(0).integers(0, 256, shape.span, dtype=np.uint8)
    listener = socket.create_server(("127.0.0.1", 0))
    with Engine() as engine:
        born = engine.empty(shape.span)
        assert born.region is not None
        np.from_dlpack(born)[:] = data
        ordinary = engine.register(data)
        pipe.send((engine.descriptor, born.region.descriptor, ordinary.descriptor, data.ctypes.data, listener.getsockname()))
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        view = data.data
        threading.Thread(target=peers.serve_socket, args=(connection, view, shape.offsets(_SOURCE_SEED), shape.block), daemon=True).start()
        pipe.recv()  # until the reader is through


class _Reader:
    """This process's side: a target buffer, and a batch for every engine path."""

    def __init__(self, shape: Shape, pipe: Connection) -> None:
        self.shape = shape
        self.descriptor, self.born, self.ordinary, self.address, self.plain = pipe.recv()
        self.target = np.zeros(shape.span, dtype=np.uint8)
        self.local = np.random.default_rng(0).integers(0, 256, shape.span, dtype=np.uint8)
        self.sources = shape.offsets(_SOURCE_SEED)
        self.targets = shape.offsets(_TARGET_SEED)
        self.engines: list[Engine] = []

    def path(self, transport: str, remote: bytes, descriptor: bytes) -> Callable[[], None]:
        """A prepared READ that takes one transport, connected and resolved."""
        engine = Engine(Options(transports=(transport,)))
        self.engines.append(engine)
        peer = engine.connect(descriptor)
        batch = _prepare(engine, peer, self.target, peer.region(remote), self.shape, self.targets, self.sources)
        return lambda: peer.read(batch, timeout=60.0)

    def verify(self, name: str) -> None:
        """Every byte of every block must be what the owner has; then the target is wiped for the next contestant."""
        for target, source in zip(self.targets, self.sources, strict=True):
            got, want = self.target[target : target + self.shape.block], self.local[source : source + self.shape.block]
            if not np.array_equal(got, want):
                raise RuntimeError(f"{name} delivered wrong bytes on {self.shape.name}")
        self.target[:] = 0


def _prepare(
    engine: Engine, peer: Any, target: np.ndarray[Any, Any], remote: Any, shape: Shape, targets: list[int], sources: list[int]
) -> Any:
    region = engine.register(target)
    zeros = np.zeros(shape.count, dtype=np.int64)
    lengths = np.full(shape.count, shape.block, dtype=np.int64)
    return peer.prepare([region], zeros, np.array(targets, dtype=np.int64), [remote], zeros, np.array(sources, dtype=np.int64), lengths)


def run(shapes: list[Shape], rounds: int, progress: Callable[[str], None]) -> list[Row]:
    """All contestants on all shapes. Each one's bytes are checked once before anything is timed."""
    rows = []
    for shape in shapes:
        progress(f"engine level, {shape.name}")
        rows += _run_shape(shape, rounds)
    return rows


def _run_shape(shape: Shape, rounds: int) -> list[Row]:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    owner = context.Process(target=owner_main, args=(theirs, shape), daemon=True)
    owner.start()
    theirs.close()
    reader = _Reader(shape, pipe)
    connection = socket.create_connection(reader.plain)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        contestants = _contestants(reader, owner.pid or 0, connection)
        for name, run_once in contestants.items():
            run_once()
            reader.verify(name)
        return measure(shape.name, shape.bytes, contestants, rounds)
    finally:
        connection.close()
        for engine in reader.engines:
            engine.close()
        pipe.send("end")
        owner.join(10)


def _contestants(reader: _Reader, pid: int, connection: socket.socket) -> dict[str, Callable[[], None]]:
    base, block = reader.target.ctypes.data, reader.shape.block
    to = [base + offset for offset in reader.targets]
    here = [reader.local.ctypes.data + offset for offset in reader.sources]
    there = [reader.address + offset for offset in reader.sources]
    return {
        "memcpy": peers.memcpy(to, here, block),
        "process_vm_readv": peers.process_vm_readv(pid, to, there, block),
        "raw TCP socket": peers.blocking_socket(connection, reader.target.data, reader.targets, block),
        "hixl shm": reader.path("shm", reader.born, reader.descriptor),
        "hixl cma": reader.path("cma", reader.ordinary, reader.descriptor),
        "hixl stream (Unix)": reader.path("stream", reader.ordinary, reader.descriptor),
        "hixl stream (TCP)": reader.path("stream", reader.ordinary, _core.tcp_only(reader.descriptor)),
    }
