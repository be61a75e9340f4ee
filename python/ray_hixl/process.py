"""The engine of this process: made at first use, shared by everything that Ray does here, closed at exit."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_hixl import _core, arguments
from ray_hixl.engine import Engine
from ray_hixl.errors import InvalidArgument, InvalidRegion, NotAvailable, UnsupportedTensor
from ray_hixl.options import Options
from ray_hixl.tensors import explain_refusal, use_torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ray_hixl._core import Region

logger = logging.getLogger(__name__)


@dataclass
class _Registration:
    """A storage that was registered, and the bytes that it had then: it may have been resized since."""

    memory: torch.Tensor  # keeps the storage
    region: Region
    start: int
    end: int
    count: int = 0

    def holds(self, memory: torch.Tensor) -> bool:
        """All these bytes?"""
        start: int = memory.data_ptr()
        return self.start <= start and start + memory.nbytes <= self.end


# Guards everything below. Re-entrant, since a destructor may come here from wherever Python's collector runs, also with it held.
_lock = threading.RLock()
_engine: Engine | None = None
_engines = 0  # that this process has had
_options: Options | None = None
_on_loopback = False  # the engine, since Ray was not up and nobody chose: to be warned of
_LOOPBACK = "127.0.0.1"
_registered: dict[int, _Registration] = {}  # by storage: each keeps its own alive, so that no other has its number meanwhile


def engine() -> Engine:
    """The engine of this process, started if there is none. A forked child starts one of its own, with the same options.

    :raises Closed: the process is ending.
    """
    found = _engine  # without the lock: nobody sees it before it is whole
    return found if found is not None else _start()


def _start() -> Engine:
    global _engine, _engines, _on_loopback
    with _lock:
        if _engine is not None:
            return _engine
        try:
            wanted, node = _options or Options(), _node_ip()
            made = Engine(wanted.with_default_host(node or _LOOPBACK))
        except InvalidArgument as error:  # which a consumer elsewhere may be the one to see
            raise InvalidArgument(f"{error} (in process {os.getpid()} on {socket.gethostname()})") from None
        if _engine is None:
            _engine, _on_loopback = made, node is None and "host" not in wanted.chosen
            _engines += 1
        else:  # a destructor that ran meanwhile came here, too
            made.close()
        return _engine


def warn_of_loopback() -> None:
    """Once, if the engine was started before Ray was, so that it listens where no other host reaches it."""
    global _on_loopback
    if not _on_loopback or (node := _node_ip()) is None:
        return
    _on_loopback = False
    if node != _LOOPBACK:
        logger.warning(
            f"the engine of this process listens on {_LOOPBACK}: it was started before ray.init (by ray_hixl.empty or register_memory, "
            f"for example), so that consumers on other hosts do not reach it. Call ray.init first, or choose Options(host={node!r})"
        )


def configure(options: Options) -> None:
    """Options of the engine to come. The same ones again are fine. :raises InvalidArgument: others were chosen before."""
    global _options
    arguments.options(options)
    with _lock:
        current = _options if _options is not None or _engine is None else Options()
        if current is not None and current != options:
            raise InvalidArgument(
                f"this process already uses other options: {current.differences(options)}. They are fixed by the first use: choose them "
                "before it, in every process that uses ray_hixl"
            )
        _options = options


def options() -> Options:
    """Those of this process's engine; before there is one, those that it will have."""
    found = _engine
    return (_options or Options()) if found is None else found.options


def stats() -> dict[str, Any]:
    """Counters of this process: the engine's (none if there is none), ``"engines"``, how many it has had (the counters are the last
    one's), and under ``"ray"`` the time spent in Ray's calls.
    """
    with _lock:
        found = {} if _engine is None else _engine.stats()
        found["engines"] = _engines
    found.setdefault("fetched", {})
    transport = sys.modules.get("ray_hixl.ray.transport")
    found["ray"] = {} if transport is None else transport.timings()
    return found


def shutdown() -> None:
    """Closes the engine, if there is one: its transfers end with ``Closed``, what it published is gone. The next use starts another."""
    global _engine
    reporter = sys.modules.get("ray_hixl.ray.reporter")
    if reporter is not None:
        reporter.flush()  # the counters go with the engine
    with _lock:
        closing, _engine = _engine, None
        _registered.clear()
    if closing is not None:
        closing.close()


def register_memory(tensor: torch.Tensor) -> None:
    """Keeps the memory of a tensor's whole storage registered until ``deregister_memory``, counted, and the storage alive.

    CPU memory needs no registration to be published; this shows it to peers as one region. NPU memory: HIXL gets the whole segment of
    torch's allocator that holds the tensor; of an expandable segment, which grows and shrinks, only the storage, from a multiple of 2 MiB
    on (docs/npu.md). Tensors in it are then published without a copy and can be targets of fetches. Do it early: peers that are connected
    already must make a new connection to reach it. A storage that was resized is registered anew by the next call.

    :raises UnsupportedTensor: the tensor has no storage of its own: it is sparse, for example.
    :raises NotAvailable: HIXL cannot have the memory (a tensor in an expandable segment that begins before that), or there is no HIXL.
    """
    storage, memory = _registrable(tensor)
    own = engine()
    with _lock:
        found = _registered.get(storage)
        if found is None or not found.holds(memory):
            start = memory.data_ptr()
            made = _Registration(memory, own.register(memory), start, start + memory.nbytes)
            if found is not None:
                made.count = found.count
                found.region.close()
            _registered[storage] = found = made
        found.count += 1


def deregister_memory(tensor: torch.Tensor) -> None:
    """Undoes one ``register_memory`` of the tensor's storage, whatever became of its bytes since.

    NPU memory stays with HIXL, and its storage alive, until no peer is connected any more; it is no longer published without a copy.

    :raises InvalidRegion: there is none to undo.
    """
    storage = _storage_of(tensor)._cdata
    with _lock:
        found = _registered.get(storage)
        if found is None:
            raise InvalidRegion("the tensor's storage is not registered: deregister_memory was called more often than register_memory")
        found.count -= 1
        if found.count == 0:
            del _registered[storage]
            found.region.close()


def empty(size: int | Sequence[int], *, dtype: torch.dtype | None = None, device: str = "cpu", pinned: bool = False) -> torch.Tensor:
    """A tensor of undefined contents that is published without a copy.

    On the CPU it is born in the source arena: consumers on this host map it instead of asking for its bytes. On an NPU it lies in a slab,
    which is registered with HIXL, and can be a target of fetches.

    :param size: a length, or a list of them.
    :param device: ``"cpu"``, ``"npu"`` (the current one) or ``"npu:<index>"``.
    :param pinned: memory of the CPU that HIXL moves from and to NPUs, where it takes it: see ``Engine.empty``.
    :raises InvalidArgument: another device, or a size below 0.
    :raises NotAvailable: npu memory cannot be moved here, and what is missing.
    :raises OutOfMemory: the NPU's slabs are at ``Options.slab_cap_bytes``, or the NPU is full.
    """
    import torch

    use_torch()
    kind = torch.get_default_dtype() if dtype is None else dtype
    if not isinstance(kind, torch.dtype):
        raise TypeError(f"dtype takes a torch.dtype; this is {arguments.described(kind)}")
    shape = arguments.shape(size)
    buffer = engine().empty(math.prod(shape) * kind.itemsize, device, pinned)
    tensor: torch.Tensor = _core.make_tensor(buffer, str(kind).removeprefix("torch."), shape)
    return tensor


def register_memory_pool(size: int, device: str) -> None:
    """At least ``size`` bytes of slabs on an NPU, taken and registered now rather than when they are needed.

    Slabs hold received tensors, ``empty()`` and the copies of published tensors. Best before the first transfer: peers that are connected
    already must make a new connection to reach a new slab.

    :raises NotAvailable: ``device`` is the CPU, whose arenas grow by themselves, or npu memory cannot be moved here.
    :raises OutOfMemory: beyond ``Options.slab_cap_bytes``, or the NPU is full.
    """
    engine().reserve(size, device)


def set_stream(stream: torch.npu.Stream | None) -> None:
    """Takes ``stream`` from now on, on its NPU, where the calling thread's current stream counts otherwise; None: the current ones again.

    It is waited for before tensors are published and before targets are received into, and copies of both run on it. What another stream
    does for them has to be waited for there: ``stream.wait_stream(other)`` before the call.

    :raises NotAvailable: this process has no torch_npu.
    :raises TypeError: it is no stream of an NPU.
    """
    from ray_hixl import npu

    npu.set_stream(stream)


def _storage_of(tensor: torch.Tensor) -> torch.UntypedStorage:
    """:raises NotAvailable: it is on a device whose memory cannot be registered. :raises UnsupportedTensor: it has no one storage."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"a torch tensor is wanted, this is {arguments.described(tensor)}; Engine.register takes any buffer")
    if tensor.device.type not in ("cpu", "npu"):
        raise NotAvailable(f"the tensor is on {tensor.device}: memory of CPUs and NPUs can be registered")
    try:
        return tensor.untyped_storage()
    except NotImplementedError as error:  # sparse, and whatever else torch keeps in several tensors
        raise UnsupportedTensor(explain_refusal(tensor, "the tensor", str(error))) from error


def _registrable(tensor: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The number of a tensor's storage, and its bytes: all of them, on an NPU those that HIXL can have."""
    import torch

    storage = _storage_of(tensor)
    memory = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
    if tensor.device.type == "npu":
        from ray_hixl import npu

        segment = npu.segment_of(tensor)
        if segment is not None:
            memory = memory[max(0, segment[0] - memory.data_ptr()) :]
    return storage._cdata, memory


def _node_ip() -> str | None:
    """The node's address as Ray knows it; None where Ray is not up."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    return str(ray.util.get_node_ip_address())


def _begin_anew() -> None:
    """In a forked child, where the engine is the parent's, and the lock may be held by a thread that is not there."""
    global _lock, _engine, _engines, _registered
    _lock = threading.RLock()
    _engine, _engines = None, 0
    _registered = {}


os.register_at_fork(after_in_child=_begin_anew)
