"""Every torch operation on npu tensors. Imported when the first one is handled: from then on, process exit takes the engines down first.

Waiting goes through torch first, never through CANN's runtime alone: torch_npu queues operations on the host before the runtime sees them.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from ray_hixl import _core, arguments
from ray_hixl.errors import DeviceBusy, NotAvailable, UnsupportedTensor

try:
    import torch_npu
except Exception as error:  # not only ImportError: its own import fails in many ways where CANN is missing or another version
    raise NotAvailable(
        f"npu tensors need torch_npu, which cannot be imported here ({str(error).splitlines()[0]}); source CANN's set_env.sh, or install "
        f"the torch_npu that belongs to torch {torch.__version__}, with its CANN"
    ) from error

if TYPE_CHECKING:
    from torch_npu.npu import Event, Stream

_npu: Any = torch.npu  # put there by torch_npu
_PLAIN_FORMATS = {0, 1, 2, 16, 27, 30, 35, 47}  # NCHW, NHWC, ND, HWCN, NDHWC, NCDHW, NC, NCL: values in order, nothing between
_HUGE_PAGE = 2 << 20
_format_of: Callable[[torch.Tensor], int] = getattr(torch.ops.npu, "get_npu_format", torch_npu.get_npu_format)  # the former is faster

# What the NPU's copy kernels take in any case; others are copied as integers of their size.
_COPIED_AS_THEY_ARE = {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
}
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_streams: dict[int, Stream] = {}  # by device: what set_stream() chose
_used: tuple[list[int], float] = ([], 0.0)  # the devices on which torch had memory, and until when that is believed
_ASKED_AGAIN_S = 1.0
_ASKED_AGAIN_UNUSED_S = 0.01  # where torch has none: less than it takes to open a device for the first
_proven: Any = None  # the import of DLPack that was seen to make npu tensors


def set_stream(stream: Stream | None) -> None:
    """Fences ``stream`` from now on, on its device, whatever a thread's current one is; None: current streams again. Any thread."""
    if stream is None:
        _streams.clear()
    elif isinstance(stream, _npu.Stream):
        _streams[stream.device_index] = stream
    else:
        raise TypeError(f"a torch.npu.Stream is wanted, or None, this is {arguments.described(stream)}")


def refuse_capture(what: str) -> None:
    """:raises NotAvailable: this thread is capturing a graph, in which nothing may wait for the device."""
    if _npu.is_current_stream_capturing():
        raise NotAvailable(f"{what} while a graph is captured is not possible: do it before or after the capture (torch.npu.graph)")


def set_fence(device: int) -> Event:
    """An event behind what is queued on the stream chosen for the device, else on this thread's current one there.

    :raises NotAvailable: a graph is being captured.
    """
    refuse_capture("publishing or fetching npu tensors")
    event: Event = _npu.Event()
    event.record(_streams.get(device) or _npu.current_stream(device))
    return event


def passed(event: Event) -> bool:
    """Is what was queued before the event done? Asks, and does not wait."""
    return bool(event.query())


def wait_for(device: int, deadline: float, call: str) -> None:
    """Waits for what is queued as ``set_fence`` says, until ``time.monotonic()`` is at ``deadline``.

    :raises DeviceBusy: that was not done by then; ``call`` is what it was queued before.
    """
    event, begin, pause = set_fence(device), time.monotonic(), 1e-5
    while True:
        now = time.monotonic()  # before the look, so that one follows however long this thread did not run
        if passed(event):
            return
        if now >= deadline:
            raise DeviceBusy(f"npu:{device} was busy for {now - begin:.1f} s with work that was queued before {call} on the same stream")
        time.sleep(min(pause, deadline - now))
        pause = min(2 * pause, 1e-3)


def current_device() -> int:
    """The device that new tensors are made on, in this thread. Where it has none yet that opens npu:0: only for threads of the user's."""
    return int(_npu.current_device())


def landing_device(source: int) -> int:
    """The device that tensors of the source's device come to where nobody chose one: the one that this process uses.

    That is the one on which torch has memory; of several the source's, else the thread's own, else the lowest. Where torch has none the
    thread's own, else the source's, else npu:0. Opens no device.
    """
    used = _used_devices(source)
    if source in used:
        return source
    own = _own_device()
    if used:
        return own if own in used else used[0]
    visible = range(_npu.device_count())
    return next((device for device in (own, source) if device in visible), 0)


def _used_devices(source: int) -> list[int]:
    """Where torch has memory. To ask takes 7 us a device: so it is believed for a time, but not that torch has none on the source's."""
    global _used
    now, visible = time.monotonic(), _npu.device_count()
    used, believed_until = _used
    if now < believed_until and (not used or source in used or source >= visible or not _reserved(source)):
        return used
    used = [device for device in range(visible) if _reserved(device)]
    _used = (used, now + (_ASKED_AGAIN_S if used else _ASKED_AGAIN_UNUSED_S))
    return used


def _reserved(device: int) -> int:
    """Bytes that torch's allocator has on a device."""
    if not _npu.is_initialized():
        return 0
    return int(torch_npu._C._npu_memoryStats(device)["reserved_bytes"]["all"]["current"])


def _own_device() -> int:
    """The device that this thread has set; -1 if none, or if this torch_npu does not tell without setting one."""
    return int(getattr(torch_npu._C, "_npu_getDeviceWithoutSet", lambda: -1)())


def from_dlpack(capsule: Any) -> torch.Tensor:
    """An npu tensor out of a DLPack capsule, by torch_npu's own import, looked up at every call.

    :raises NotAvailable: this torch_npu has none. What torch itself would make has no NPU storage, and operators would fail on it.
    """
    global _proven
    door: Callable[[Any], torch.Tensor] = torch.utils.dlpack.from_dlpack
    if door is _proven:
        return door(capsule)
    try:
        tensor = door(capsule)
        torch_npu.get_npu_format(tensor)
    except Exception as error:
        raise NotAvailable(
            f"torch_npu {torch_npu.__version__} does not make npu tensors out of DLPack, which received tensors need: use torch_npu "
            "2.7.1.post2, 2.8.0.post2, 2.9.0 or newer"
        ) from error
    _proven = door
    return tensor


def check_format(tensor: torch.Tensor, which: str) -> tuple[int, int]:
    """Address and bytes of a tensor's storage, which is in a plain format.

    :raises UnsupportedTensor: ``which`` is in a private format: its bytes are not its values in order.
    """
    try:
        found = _format_of(tensor)
    except RuntimeError:  # made by torch itself out of foreign memory: no NPU storage, hence no format
        found = 2
    if found not in _PLAIN_FORMATS:
        name = getattr(torch_npu.get_npu_format(tensor), "name", "")
        raise UnsupportedTensor(
            f"{which} is in the NPU's private format {found} ({name}): its bytes are not its values in order. Take "
            "torch_npu.npu_format_cast(tensor, 2)"
        )
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def segment_of(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Address and bytes of what HIXL gets where a tensor is registered; None if it is not memory of torch's allocator.

    That is the whole allocation that holds it; of an expandable segment, which grows and shrinks, only what the storage keeps mapped.

    :raises NotAvailable: HIXL cannot register that memory.
    """
    address = tensor.data_ptr()
    for segment in _npu.memory_snapshot():
        start, size = segment["address"], segment["total_size"]
        if segment["device"] != tensor.device.index or not start <= address < start + size:
            continue
        if segment.get("is_expandable") and (pages := _pages_of(tensor))[0] >= start:
            return pages
        if start % _HUGE_PAGE:
            raise NotAvailable(
                f"the tensor lies in an allocation of torch's allocator that begins at {start:#x}, but HIXL registers memory that begins "
                "at a multiple of 2 MiB: take the tensor from ray_hixl.empty()"
            )
        return start, size
    return None


def _pages_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Address and bytes of what a tensor's storage keeps mapped, and no neighbour's: itself, from its first multiple of 2 MiB on.

    Of a storage inside of one page the page, which everything in it keeps mapped.

    :raises NotAvailable: the tensor begins before that.
    """
    storage = tensor.untyped_storage()
    begin, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    page = begin // _HUGE_PAGE * _HUGE_PAGE
    if end <= page + _HUGE_PAGE:
        return page, _HUGE_PAGE
    start = page if begin == page else page + _HUGE_PAGE
    if tensor.data_ptr() < start:
        raise NotAvailable(
            f"the tensor lies in an expandable segment of torch's allocator and begins at {tensor.data_ptr():#x}, but HIXL registers "
            "memory that begins at a multiple of 2 MiB, and what lies before it is its neighbour's: allocate 2 MiB more and take the slice "
            "that begins at one (docs/npu.md), or take the tensor from ray_hixl.empty(), whose memory register_memory_pool() sizes"
        )
    return start, end - start


def pack(tensors: Sequence[torch.Tensor], indices: Sequence[int], addresses: Sequence[int], device: int) -> None:
    """Queues copies of ``tensors[indices[i]]``, contiguous, to ``addresses[i]`` of the device, on the stream that ``set_fence`` is for."""
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass(), _stream(device):
        sources = [_bits_of(tensors[index]) for index in indices]
        batches: dict[torch.dtype, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        for target, source in zip(_wrap(sources, addresses, device), sources, strict=True):
            if source.is_contiguous():
                into, out_of = batches.setdefault(source.dtype, ([], []))
                into.append(target)
                out_of.append(source)
            else:
                target.copy_(source)
        for into, out_of in batches.values():
            torch._foreach_copy_(into, out_of)


def copy_into(targets: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor], deadline: float) -> None:
    """Copies each tensor into its target, on whatever devices they are; done when it returns.

    On each device on the chosen stream, else on the current one, once what is queued there and may use the targets is done.

    :raises DeviceBusy: that took longer than until ``time.monotonic()`` is at ``deadline``. Then nothing was copied.
    """
    devices = {tensor.device.index for tensor in (*targets, *tensors) if tensor.device.type == "npu"}
    for device in devices:
        wait_for(device, deadline, "its tensors were copied into their targets")
    with torch.no_grad(), ExitStack() as streams:
        for stream in [stream for device, stream in _streams.items() if device in devices]:
            streams.enter_context(_npu.stream(stream))
        for target, tensor in zip(targets, tensors, strict=True):
            target.copy_(tensor)
        for device in devices:
            _npu.current_stream(device).synchronize()


def _stream(device: int) -> AbstractContextManager[Any]:
    """The device's chosen stream as the current one, else the device's current one."""
    stream = _streams.get(device)
    if stream is not None:
        context: AbstractContextManager[Any] = _npu.stream(stream)
    elif device != _own_device():
        context = _npu.device(device)
    else:
        context = nullcontext()
    return context


def _bits_of(tensor: torch.Tensor) -> torch.Tensor:
    """The same bits, as elements that copy kernels take."""
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor.dtype in _COPIED_AS_THEY_ARE or tensor.itemsize not in _INTEGERS:
        return tensor
    return tensor.view(_INTEGERS[tensor.itemsize])


def _wrap(sources: Sequence[torch.Tensor], addresses: Sequence[int], device: int) -> list[torch.Tensor]:
    """Memory at the addresses as contiguous tensors like the sources: one import for each run of equal ones at equal distances."""
    wrapped: list[torch.Tensor] = []
    first = 0
    while first < len(sources):
        shape, dtype = sources[first].shape, sources[first].dtype
        end = first + 1
        step = addresses[end] - addresses[first] if end < len(addresses) else 0
        while end < len(sources) and addresses[end] - addresses[end - 1] == step and _alike(sources[end], shape, dtype):
            end += 1
        name = str(dtype).removeprefix("torch.")
        capsule = _core.npu_capsule(addresses[first], device, name, [end - first, *shape], step // dtype.itemsize)
        wrapped += from_dlpack(capsule).unbind(0)
        first = end
    return wrapped


def _alike(tensor: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> bool:
    return tensor.dtype is dtype and tensor.shape == shape


atexit.register(_core.end_of_process)  # again: it runs before torch_npu takes the runtime down, since this was registered later
