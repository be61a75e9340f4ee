"""``HiXLTensorTransport``: Ray's calls, translated into calls of the process-wide engine.

Ray calls one instance per process from several threads at once; each method says which. No lock is held over a call but an object's own,
while it is published.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

from ray_hixl import _core, process
from ray_hixl.errors import HixlError
from ray_hixl.ray import compat, handoffs, reporter, requests
from ray_hixl.ray.errors import to_ray
from ray_hixl.ray.metadata import LAST_CHANCE_S, ObjectMetadata, TransferMetadata
from ray_hixl.ray.records import FetchRecord, PublishRecord
from ray_hixl.ray.requests import PendingFetch
from ray_hixl.tensors import TensorMetaSequence

if TYPE_CHECKING:
    import torch

    from ray_hixl._core import Begun, Published
    from ray_hixl.transfers import Fetch

logger = logging.getLogger(__name__)

NAME = "HIXL"
_MOST_ABORTED = 1024
_NEXT_CHANCE_S = 0.1  # of a transfer that was aborted before it began, after one that failed


class _Publication:
    """An object published here, or about to be. Its lock is held while it is published, so that this happens once."""

    def __init__(self, obj_id: str) -> None:
        self.obj_id = obj_id
        self.lock = threading.Lock()
        self.metadata: ObjectMetadata | None = None
        self.published: Published | None = None  # knows the engine, which may have been shut down since
        self.freed = False

    def publish(self, tensors: list[torch.Tensor]) -> ObjectMetadata:
        """Once; the same metadata at every call. Freed meanwhile: its metadata names an object that is gone.

        Ray up to 2.55 publishes a try of a task that raised as well, without tensors: those of a later try take its place.
        """
        with self.lock:
            if self.metadata is None or (tensors and not len(self.metadata.tensor_meta)):
                self._release()
                self._publish(tensors)
                if self.freed:
                    self._release()
            assert self.metadata is not None
            return self.metadata

    def free(self) -> None:
        """Takes no lock: it may run in the middle of ``publish``, in the same thread. At least one of them sees what the other did."""
        self.freed = True
        self._release()

    def _release(self) -> None:
        if self.published is not None:
            self.published.release()

    def _publish(self, tensors: list[torch.Tensor]) -> None:
        """No engine: the consumer is told, the producer lives on."""
        record = PublishRecord(self.obj_id)
        try:
            process.warn_of_loopback()
            with process.engine().publish_owned(tensors) as published:  # released if interrupted
                self.metadata, self.published = _describe(published.packed, tensors), published
        except Exception as error:
            self.metadata = _describe_failure(error, tensors)
        record.end(self.metadata)
        reporter.report(record)


class HiXLTensorTransport(compat.TensorTransportManager):
    """One-sided, abortable tensor transport for Ray Direct Transport. Cheap to make: the engine starts at first use."""

    def __init__(self) -> None:
        self._begin()
        _instances.add(self)

    def _begin(self) -> None:
        """With nothing published and nothing under way: at first, and again in a forked child, since all of it is the parent's."""
        self._published: dict[str, _Publication] = {}  # changed by single operations of dict alone: garbage_collect takes no lock
        self._transfers: dict[bytes, Fetch] = {}
        self._aborted: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()  # guards _transfers and _aborted; no call is made with it held
        self._last_chance_s = LAST_CHANCE_S  # of the next transfer that was aborted before it began

    def tensor_transport_backend(self) -> str:
        """Any process, any thread."""
        return NAME

    @staticmethod
    def is_one_sided() -> bool:
        """Any process, any thread; Ray asks the class, too."""
        return True

    @staticmethod
    def can_abort_transport() -> bool:
        """Owner's process. False would make Ray kill both actors when a transfer fails."""
        return True

    def actor_has_tensor_transport(self, actor: Any) -> bool:
        """Submitter's process, at every call of an RDT method: must not cost a round trip. A missing engine shows up in the metadata."""
        return True

    def extract_tensor_transport_metadata(self, obj_id: str, rdt_object: list[torch.Tensor]) -> ObjectMetadata:
        """Source process, on the thread that ran the task or called ``ray.put``. Never raises; may be called again for an object."""
        with _Timed("publish"):
            return self._published.setdefault(obj_id, _Publication(obj_id)).publish(rdt_object)

    def get_communicator_metadata(self, src_actor: Any, dst_actor: Any, backend: str | None = None) -> TransferMetadata:
        """Owner's process, sometimes under Ray's lock on its I/O thread: no Ray call, no wait, no exception."""
        with _Timed("communicator"):
            return TransferMetadata()

    def recv_multiple_tensors(
        self,
        obj_id: str,
        tensor_transport_metadata: ObjectMetadata,
        communicator_metadata: TransferMetadata,
        target_buffers: list[torch.Tensor] | None = None,
    ) -> list[torch.Tensor]:
        """Consumer's process, on the one thread of the actor's ``_ray_system`` group (2.54, 2.55: also where ``ray.get`` is called)."""
        transfer = communicator_metadata.transfer_id
        with _Timed("receive"), requests.one_get() as get:
            timeout = self._time_left(communicator_metadata)
            request = _begin(get, obj_id, tensor_transport_metadata, communicator_metadata, target_buffers, timeout)
            try:
                with self._lock:
                    self._transfers[transfer] = request.fetch
                if self._take_abort(transfer):  # it came while the fetch was started, and found nothing to cancel
                    request.fetch.cancel()
                tensors = _result(request)
            finally:
                with self._lock:
                    self._transfers.pop(transfer, None)
            self._last_chance_s = LAST_CHANCE_S
            return tensors

    def fetch_multiple_tensors(
        self,
        obj_id: str,
        tensor_transport_metadata: ObjectMetadata,
        communicator_metadata: TransferMetadata,
        target_buffers: list[torch.Tensor] | None = None,
    ) -> PendingFetch:
        """Process and thread that call ``ray.get`` (2.56 and later), for every object before any is waited for. Never aborted by Ray."""
        with _Timed("receive"), requests.this_get() as get:
            timeout = communicator_metadata.budget_s()
            return _begin(get, obj_id, tensor_transport_metadata, communicator_metadata, target_buffers, timeout)

    def wait_fetch_complete(self, fetch_request: PendingFetch, timeout: float = -1) -> list[torch.Tensor]:
        """The same thread, afterwards. ``timeout``: seconds; negative waits until the fetch's own deadline.

        When it raises, for whatever reason, nothing writes to the targets of this ``ray.get`` any more, or the error says so.
        """
        return _result(fetch_request, None if timeout < 0 else timeout)

    def send_multiple_tensors(self, tensors: Any, tensor_transport_metadata: Any, communicator_metadata: Any) -> None:
        """Never called: the transport is one-sided."""
        raise NotImplementedError("hixl is one-sided: consumers fetch, nobody sends")

    def garbage_collect(self, obj_id: str, tensor_transport_meta: Any, tensors: Any = None) -> None:
        """Source process, on ``_ray_system`` or whichever thread dropped the last reference. Never raises, blocks or calls Ray."""
        publication = self._published.pop(obj_id, None)
        if publication is None:
            return
        try:
            publication.free()
        except Exception:
            logger.exception("object %s could not be freed", obj_id)

    def abort_transport(self, obj_id: str, communicator_metadata: TransferMetadata) -> None:
        """Consumer's process, on ``_ray_system_error``, before, during or after the transfer it names."""
        with self._lock:
            fetch = self._transfers.get(communicator_metadata.transfer_id)
            if fetch is None:
                self._aborted[communicator_metadata.transfer_id] = None
                while len(self._aborted) > _MOST_ABORTED:
                    self._aborted.popitem(last=False)
        if fetch is not None:
            fetch.cancel()

    def _time_left(self, communicator: TransferMetadata) -> float:
        """Seconds for a receive. One that was aborted before is tried for a moment: Ray would hand its error to the next fetch of the
        object, while its bytes are right for whoever gets them. Where such a try failed, the next ones get less time until a receive
        succeeds, so that those behind them are not held up for each.
        """
        if not self._take_abort(communicator.transfer_id):
            return communicator.budget_s()
        timeout, self._last_chance_s = self._last_chance_s, _NEXT_CHANCE_S
        return timeout

    def _take_abort(self, transfer_id: bytes) -> bool:
        """Was there an abort of a transfer that had not begun? It counts once."""
        with self._lock:
            aborted = transfer_id in self._aborted
            self._aborted.pop(transfer_id, None)
            return aborted


def _begin(
    get: Begun,
    obj_id: str,
    metadata: ObjectMetadata,
    communicator: TransferMetadata,
    targets: list[torch.Tensor] | None,
    timeout: float,
) -> PendingFetch:
    record = FetchRecord(obj_id, metadata.packed, communicator)
    if metadata.failure is not None:
        raise _failed(record, metadata.failure)
    try:
        fetch = process.engine().fetch_within(get, obj_id, metadata.packed, targets, timeout)
    except HixlError as error:
        raise _failed(record, error) from None
    return PendingFetch(obj_id, fetch, get, record)


def _result(request: PendingFetch, timeout: float | None = None) -> list[torch.Tensor]:
    fetch, record = request.fetch, request.record
    with requests.get_of(request):
        try:
            if not fetch.wait(timeout):
                record.is_late(timeout or 0.0)
                raise TimeoutError(f"object {request.obj_id} did not arrive within {timeout:g} s")
            record.arrive()
            tensors = fetch.result()
        except HixlError as error:
            raise _failed(record, error, fetch) from None
        record.end(fetch)
        reporter.report(record)
        return tensors


def _failed(record: FetchRecord, error: HixlError, fetch: Fetch | None = None) -> HixlError:
    """The error as Ray users catch it, once it is reported."""
    record.fail(error, fetch)
    reporter.report(record)
    return to_ray(error, f"ObjectRef({record.object_id})")


_instances: weakref.WeakSet[HiXLTensorTransport] = weakref.WeakSet()


def _leave_cluster() -> None:
    """Frees what was published, since Ray forgets its objects without a word; and has all reported that was done in this cluster."""
    for instance in list(_instances):
        for obj_id in list(instance._published):
            instance.garbage_collect(obj_id, None)
    reporter.flush()


def _begin_anew() -> None:
    for instance in list(_instances):
        instance._begin()
    for timer in _timers.values():
        timer.calls, timer.seconds = 0, 0.0


os.register_at_fork(after_in_child=_begin_anew)


def _describe(packed: bytes, tensors: list[torch.Tensor]) -> ObjectMetadata:
    """Ray knows one device type for each object, and compares it with the registered ones: ``"npu"`` if any tensor is on one."""
    device = "npu" if _core.touches_npu(packed) else _device_type(tensors)
    return ObjectMetadata(TensorMetaSequence(packed), compat.tensor_device(device), packed=packed)


def _describe_failure(error: Exception, tensors: list[torch.Tensor]) -> ObjectMetadata:
    failure = error if isinstance(error, HixlError) else HixlError(f"the source could not publish: {error!r}")
    shapes = [(_shape(tensor), tensor.dtype) for tensor in tensors]
    return ObjectMetadata(shapes, compat.tensor_device(_device_type(tensors)), failure=failure)


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """Nested tensors have none."""
    try:
        return tuple(tensor.shape)
    except RuntimeError:
        return ()


def _device_type(tensors: list[torch.Tensor]) -> str:
    """Of an object without bytes on an NPU, or one that could not be published, so that Ray lets the reason through to where it is fetched.
    Devices that nobody moves are told as the CPU for that, too.
    """
    if "torch_npu" not in sys.modules:
        return "cpu"
    return "npu" if any(tensor.device.type == "npu" for tensor in tensors) else "cpu"


class _Timer:
    """Calls and seconds spent in this class, by what it did. A wait for bytes counts as receive."""

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0


_timers = {name: _Timer() for name in ("publish", "communicator", "receive")}


class _Timed:
    """Counts what happens inside of a block. No generator: one that an interrupt leaves behind is ended by a destructor, which would
    swallow the next interrupt.
    """

    def __init__(self, name: str) -> None:
        self._timer = _timers[name]

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._timer.calls += 1
        self._timer.seconds += time.perf_counter() - self._start


def timings() -> dict[str, dict[str, float]]:
    """For ``ray_hixl.stats()["ray"]``: calls and seconds of this process, by what the transport did."""
    return {name: {"calls": timer.calls, "seconds": timer.seconds} for name, timer in _timers.items()}


compat.around_every_get(requests.one_get)
compat.before_every_handoff(partial(handoffs.wait_until_made, name=NAME))
compat.before_every_shutdown(_leave_cluster)
