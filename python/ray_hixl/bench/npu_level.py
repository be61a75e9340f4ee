"""NPU level: fetches of npu tensors between two processes, against what HIXL itself needs for the bytes; and of one to the CPU, staged,
against what it is made of: the NPU's own copy to the host, and a fetch of as much host memory over a socket.

Over the FAKE CANN of the tests HIXL's own time comes from a program that the fake brings along, in the same rounds. On hardware there is no
such program: only the fetches are measured, and no goal is judged.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ray_hixl import _core
from ray_hixl.bench.rounds import Row, measure
from ray_hixl.bench.shapes import MIB, Shape
from ray_hixl.engine import Engine
from ray_hixl.options import Options

_SLAB_BYTES = 1 << 30  # room for every shape, so that no slab is added in the middle
CONTROL = "control round trip"
HANDOFF = "thread handoff"
RAW = "FAKE HIXL itself"
STAGED = "staged to the CPU"
DEVICE_COPY = "copy of the NPU to the host"
STREAM = "stream, host memory"
STAGED_BYTES = 64 * MIB


def owner_main(pipe: Connection, shapes: list[Shape], regions: int) -> None:
    """The owner's process: an object of each shape on its device, and small regions that nobody has asked for yet."""
    import torch
    import torch_npu  # noqa: F401

    device = f"npu:{torch.npu.device_count() - 1}"
    with Engine(Options(slab_bytes=_SLAB_BYTES)) as engine:
        sizes = [(shape.count, shape.block) for shape in shapes]
        objects = [[torch.full((block,), 7, dtype=torch.uint8, device=device) for _ in range(count)] for count, block in sizes]
        shown = [engine.register(bytearray(64)) for _ in range(regions)]
        host = engine.publish([torch.full((STAGED_BYTES,), 7, dtype=torch.uint8)])
        pipe.send(([engine.publish(tensors) for tensors in objects], host, engine.descriptor, [region.descriptor for region in shown]))
        pipe.recv()  # until the reader is through


class _Clock:
    """The fake's own program: nanoseconds of one transfer, or of waking a thread."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str) -> float:
        """Seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()) / 1e9

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def find_clock() -> Path | None:
    """The fake's program; None on hardware."""
    info = _core.cann_info()
    if not info["is_fake"]:
        return None
    return Path(info["hixl"]).parent.parent.parent / "bin" / "fake_hixl_clock"


def run(shapes: list[Shape], rounds: int, progress: Callable[[str], None]) -> tuple[list[Row], dict[str, Any]]:
    """The rows, and what else was seen: CPU seconds of our threads while idle, the engine's counters, whether CANN is the FAKE one."""
    program = find_clock()
    clock = None if program is None else _Clock(program)
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    owner = context.Process(target=owner_main, args=(theirs, shapes, rounds + 8), daemon=True)
    owner.start()
    theirs.close()
    try:
        with Engine(Options(slab_bytes=_SLAB_BYTES)) as engine:
            return _measure(engine, pipe, clock, shapes, rounds, progress)
    finally:
        if clock is not None:
            clock.close()
        pipe.send("end")
        owner.join(30)


def _measure(
    engine: Engine, pipe: Connection, clock: _Clock | None, shapes: list[Shape], rounds: int, progress: Callable[[str], None]
) -> tuple[list[Row], dict[str, Any]]:
    import torch_npu  # noqa: F401

    objects, host, descriptor, regions = pipe.recv()
    measured = {}
    # The largest first: it touches the pages of the slab that all others land in. HIXL itself reads into warm memory, too.
    for shape, metadata in sorted(zip(shapes, objects, strict=True), key=lambda pair: -pair[0].bytes):
        progress(f"npu level, {shape.name}")
        _check(engine.fetch(metadata).result(), shape)
        measured[shape.name] = _interleave(shape, engine, metadata, clock, rounds)
        if shape.bytes == STAGED_BYTES:
            measured[shape.name] += _staged(shape, metadata, host, rounds)
    rows = [row for shape in shapes for row in measured[shape.name]]
    peer = engine.connect(descriptor)
    remotes = [peer.region(region) for region in regions]
    rows += measure("-", 0, {CONTROL: lambda: peer.path(remote=remotes.pop())}, rounds)
    if clock is not None:
        rows.append(Row(HANDOFF, "-", 0, [clock.ask("handoff") for _ in range(rounds)]))
    extra = {"idle_cpu_s_per_s": _idle_cpu(), "devices": engine.stats()["devices"], "fake": clock is not None}
    return rows, extra


def _interleave(shape: Shape, engine: Engine, metadata: bytes, clock: _Clock | None, rounds: int) -> list[Row]:
    """A fetch and HIXL's own transfer of as many bytes in each round, after two that are not counted."""
    ours, raw = Row("hixl", shape.name, shape.bytes), Row(RAW, shape.name, shape.bytes)
    for number in range(-2, rounds):
        start = time.perf_counter()
        tensors = engine.fetch(metadata).result()
        elapsed = time.perf_counter() - start
        del tensors  # the next fetch reuses the memory
        itself = 0.0 if clock is None else clock.ask(f"raw {shape.bytes}")
        if number >= 0:
            ours.seconds.append(elapsed)
            raw.seconds.append(itself)
    return [ours] if clock is None else [ours, raw]


def _staged(shape: Shape, metadata: bytes, host: bytes, rounds: int) -> list[Row]:
    """Of one npu tensor to the CPU, and what that can be compared with."""
    import torch

    on_npu = torch.full((shape.bytes,), 7, dtype=torch.uint8, device="npu")
    into = torch.zeros(shape.bytes, dtype=torch.uint8)
    torch.npu.synchronize()
    with Engine(Options(transports=("staged",))) as staged, Engine(Options(transports=("stream",))) as stream:
        contestants: dict[str, Callable[[], object]] = {
            STAGED: lambda: staged.fetch(metadata, device="cpu").result(),
            DEVICE_COPY: lambda: into.copy_(on_npu),
            STREAM: lambda: stream.fetch(host).result(),
        }
        return measure(shape.name, shape.bytes, contestants, rounds)


def _check(tensors: list[Any], shape: Shape) -> None:
    if len(tensors) != shape.count or any(tensor.numel() != shape.block for tensor in tensors):
        raise RuntimeError(f"another object arrived for {shape.name}")
    if any(int(tensor[index].item()) != 7 for tensor in tensors[:: max(1, shape.count // 16)] for index in (0, -1)):
        raise RuntimeError(f"wrong bytes arrived for {shape.name}")


def _idle_cpu() -> float:
    """CPU seconds that ray-hixl's own threads take, with links and slabs, while nothing is asked of them for one second."""
    before = _own_cpu()
    time.sleep(1)
    return _own_cpu() - before


def _own_cpu() -> float:
    ticks = 0
    for task in Path("/proc/self/task").iterdir():
        name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        if name.startswith("hixl-"):
            ticks += sum(int(field) for field in rest.split()[11:13])  # in user and in kernel mode
    return ticks / os.sysconf("SC_CLK_TCK")
