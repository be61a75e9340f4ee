"""The engine of this process: made at first use, shared by everything that Ray does here, closed at exit."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from ray_hixl import _core
from ray_hixl.engine import Engine
from ray_hixl.errors import Closed, InvalidArgument, InvalidRegion, NotAvailable
from ray_hixl.options import Options
from ray_hixl.tensors import use_torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ray_hixl._core import Region

_lock = threading.Lock()  # guards everything below
_engine: Engine | None = None
_pid = 0  # of the process that made the engine
_options: Options | None = None
_registered: dict[int, tuple[Region, int]] = {}  # by address of the storage: its region, and how often it was registered


def engine() -> Engine:
    """The engine of this process, started if there is none.

    :raises Closed: in the forked child of a process that has one.
    """
    global _engine, _pid
    if _engine is not None and _pid == os.getpid():  # without the lock: both are set before anybody can see the engine
        return _engine
    with _lock:
        if _engine is None:
            _pid = os.getpid()
            _engine = Engine((_options or Options()).with_default_host(_node_ip()))
        elif _pid != os.getpid():
            raise Closed(f"this process was forked from process {_pid}, whose engine it cannot use; start processes by spawn instead")
        return _engine


def configure(options: Options) -> None:
    """Options of the engine to come. The same ones again are fine. :raises InvalidArgument: others were chosen before."""
    global _options
    with _lock:
        current = _options if _options is not None or _engine is None else Options()
        if current is not None and current != options:
            raise InvalidArgument(f"this process already uses other options: {current}; it cannot change to {options}")
        _options = options


def stats() -> dict[str, Any]:
    """Counters of this process: the engine's (empty if none was started), and under ``"ray"`` the time spent in Ray's calls."""
    with _lock:
        found = {} if _engine is None or _pid != os.getpid() else _engine.stats()
    found.setdefault("fetched", {})
    transport = sys.modules.get("ray_hixl.ray.transport")
    found["ray"] = {} if transport is None else transport.timings()
    return found


def shutdown() -> None:
    """Closes the engine, if there is one: its transfers end with ``Closed``, what it published is gone. The next use starts another."""
    global _engine
    with _lock:
        closing, _engine = (_engine if _pid == os.getpid() else None), None
        _registered.clear()
    if closing is not None:
        closing.close()


def register_memory(tensor: torch.Tensor) -> None:
    """Keeps the memory of a tensor's whole storage registered until ``deregister_memory``, counted.

    CPU memory needs no registration to be published; this keeps the storage alive and shows it to peers as one region.
    """
    own = engine()
    address, storage = _storage(tensor)
    with _lock:
        region, count = _registered.get(address, (None, 0))
        _registered[address] = (region if region is not None else own.register(storage), count + 1)


def deregister_memory(tensor: torch.Tensor) -> None:
    """Undoes one ``register_memory`` of the tensor's storage. :raises InvalidRegion: there is none to undo."""
    address, _ = _storage(tensor)
    with _lock:
        if address not in _registered:
            raise InvalidRegion("the tensor's storage is not registered: deregister_memory was called more often than register_memory")
        region, count = _registered.pop(address)
        if count > 1:
            _registered[address] = (region, count - 1)
        else:
            region.close()


def empty(size: int | Sequence[int], *, dtype: torch.dtype | None = None, device: str = "cpu") -> torch.Tensor:
    """A tensor of undefined contents, born in the source arena: consumers on this host map it instead of asking for its bytes.

    :param size: as for ``torch.empty``.
    :raises NotAvailable: a device other than ``"cpu"``.
    """
    import torch

    if torch.device(device).type != "cpu":
        raise NotAvailable(f"empty(device={device!r}): this version has memory for tensors on the CPU only")
    use_torch()
    kind = torch.get_default_dtype() if dtype is None else dtype
    shape = torch.Size([size] if isinstance(size, int) else size)
    buffer = engine()._core.empty(shape.numel() * kind.itemsize)
    tensor: torch.Tensor = _core.make_tensor(buffer, str(kind).removeprefix("torch."), list(shape))
    return tensor


def register_memory_pool(size: int, device: str) -> None:
    """Not available in this version."""
    raise NotAvailable("register_memory_pool: it sizes device slabs, and NPU memory is not built yet; CPU arenas grow by themselves")


def set_stream(stream: Any) -> None:
    """Not available in this version."""
    raise NotAvailable("set_stream: it narrows the fence of NPU tensors, and NPU memory is not built yet")


def check(actor: Any, timeout: float = 5.0) -> list[str]:
    """Not available in this version."""
    raise NotAvailable("check: asking an actor why it would not receive is not built yet; docs/ray.md lists the reasons")


def _storage(tensor: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Address of a tensor's storage, and the storage as a flat uint8 tensor."""
    import torch

    if tensor.device.type != "cpu":
        raise NotAvailable(f"the tensor is on {tensor.device}: this version registers CPU memory only")
    storage = tensor.untyped_storage()
    flat = torch.empty(0, dtype=torch.uint8).set_(storage)
    return storage.data_ptr(), flat


def _node_ip() -> str:
    """Where peers reach this process: the node's address under Ray, else this host only."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return "127.0.0.1"
    return str(ray.util.get_node_ip_address())


atexit.register(shutdown)
