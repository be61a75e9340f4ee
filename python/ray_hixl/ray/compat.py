"""Everything of Ray that is private or differs between Ray versions, in one place.

One transport class serves Ray 2.54 and later. What changed between versions (module paths, the fetch request, the form of
``tensor_device``, the arguments of registration) is settled here once, at import.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import ray
import ray._private.ray_constants as _constants
import ray._private.services as _services
import ray._private.state as _state
import torch
from ray.exceptions import RaySystemError

RECEIVING_GROUP = "_ray_system"  # the concurrency group of an actor that was made with enable_tensor_transport=True

_OLDEST = (2, 54)
_GETS = "fetch_and_get_rdt_objects"
_HANDOFFS = "queue_or_trigger_out_of_band_tensor_transfer"
_LOOP = "AsyncIO Thread: "  # how an async actor's threads are named, then the concurrency group
_SHUTDOWN = "shutdown"  # ray.shutdown calls it before it disconnects
_MARK = "_ray_hixl_scope"  # of our function around Ray's; decorators that copy what they wrap copy it along
_NOT_PLAIN = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR  # functions that return before they have run

logger = logging.getLogger(__name__)


def ray_version() -> tuple[int, int]:
    """Major and minor version of the installed Ray."""
    major, minor = ray.__version__.split(".")[:2]
    return int(major), int(minor)


if ray_version() < _OLDEST:
    raise ImportError(
        f"ray-hixl needs Ray 2.54 or newer: Ray {ray.__version__} has no custom tensor transports. Upgrade with: pip install -U 'ray>=2.54'"
    )

try:  # Ray 2.55 and later
    from ray.experimental.rdt import tensor_transport_manager as _manager
    from ray.experimental.rdt import util as _util

    DEVICE_IS_TEXT = True
except ImportError:  # Ray 2.54
    import ray.experimental.channel  # first: where the hook of a job came before it, ray.put fails to import it
    from ray.experimental.gpu_object_manager import tensor_transport_manager as _manager
    from ray.experimental.gpu_object_manager import util as _util

    DEVICE_IS_TEXT = False

TensorTransportManager: Any = _manager.TensorTransportManager
TensorTransportMetadata: Any = _manager.TensorTransportMetadata
CommunicatorMetadata: Any = _manager.CommunicatorMetadata

try:  # Ray 2.56 and later
    FetchRequest: Any = _manager.FetchRequest
except AttributeError:

    @dataclass
    class FetchRequest:  # type: ignore[no-redef]
        """A fetch under way; nothing calls for it on this Ray."""

        obj_id: str
        tensors: list[Any]


try:
    from ray.exceptions import RayDirectTransportError as RayDirectTransportError
except ImportError:
    RayDirectTransportError = RaySystemError


HOOK_VARIABLE: str = _constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR  # what a worker calls when it starts


@dataclass(frozen=True)
class _DeviceType:
    """What Ray 2.54 reads of a ``torch.device``. torch itself makes and unpickles one for an NPU only where torch_npu is loaded."""

    type: str


def tensor_device(device_type: str) -> Any:
    """A device type in the form that this Ray compares: text since 2.55, something with a ``type`` before."""
    return device_type if DEVICE_IS_TEXT else _DeviceType(device_type)


def actor_name() -> str:
    """What the actor that this process is was named, else its class; ``"driver"``; ``""`` where it is neither, or not yet.

    Not for an actor's process that is ending: what Ray's core is asked for then ends it at once.
    """
    worker = ray._private.worker.global_worker
    if worker.mode == ray._private.worker.SCRIPT_MODE:
        return "driver"
    instance = next(iter(worker.actors.values()), None)
    return "" if instance is None else str(worker.actor_name or type(instance).__name__)


def fetch_timeout_s() -> float:
    """Seconds after which this Ray gives a transfer up (``RAY_rdt_fetch_fail_timeout_milliseconds``)."""
    return float(getattr(_constants, "RDT_FETCH_FAIL_TIMEOUT_SECONDS", 60.0))


def event_loops() -> list[str]:
    """The concurrency groups of the async actor that this process is, each of which has an event loop; none where it is no such actor."""
    names = [thread.name for thread in threading.enumerate()]
    return [name.removeprefix(_LOOP) for name in names if name.startswith(_LOOP)]


def cluster_address(address: str) -> str:
    """Host and port of the running cluster that ``ray.init(address)`` would connect to.

    :raises ConnectionError: there is none. :raises ValueError: it is none that a process of the cluster could join.
    """
    found = _services.canonicalize_bootstrap_address(address)
    if found is None:
        raise ConnectionError("there is none on this host")
    return str(found)


def unnamed_actors() -> int:
    """How many actors without a name live in the cluster."""
    return sum(not actor["Name"] for actor in _state.actors(actor_state_name="ALIVE").values())


def registered_class(name: str) -> type | None:
    """The class that holds a transport name in this process, if any."""
    info = _util.transport_manager_info.get(name.upper())
    return None if info is None else info.transport_manager_class


def around_every_get(scope: Callable[[], AbstractContextManager[Any]]) -> None:
    """Puts ``scope()`` around Ray's function that starts and waits for all fetches of one ``ray.get``, in this process. Once.

    Ray 2.54 and 2.55 have none: there each object of a ``ray.get`` is received before the next one is begun. Where it is another than we
    know, the log says what is lost.
    """
    if why := why_gets_are_bare():
        logger.warning(why)
    _wrap(_GETS, lambda *_, **__: scope())


def before_every_handoff(call: Callable[[Any, Any, tuple[Any, ...]], None]) -> None:
    """Makes ``call(manager, actor, arguments)`` before Ray's function begins what a call of an actor hands over, in the process that
    submits it. Once. Where Ray has no such function, nothing is done.
    """
    _before(_HANDOFFS, call)


def before_every_shutdown(call: Callable[[], None]) -> None:
    """Makes ``call()`` where ``ray.shutdown`` begins, while this process is still connected. Once. It must not raise.

    Only where Ray has handed anything over in this process by a transport. Where Ray has no such function, nothing is done.
    """
    _before(_SHUTDOWN, lambda _manager: call())


def _before(name: str, call: Callable[..., None]) -> None:
    def scope(*arguments: Any, **named: Any) -> AbstractContextManager[None]:
        call(*arguments, **named)
        return nullcontext()

    _wrap(name, scope)


def _wrap(name: str, scope: Callable[..., AbstractContextManager[Any]]) -> None:
    manager = _class_of_managers()
    function = inspect.getattr_static(manager, name, None)
    if not _is_plain(function) or hasattr(function, _MARK):
        return

    @functools.wraps(function)
    def inside(*arguments: Any, **named: Any) -> Any:
        with scope(*arguments, **named):
            return function(*arguments, **named)

    setattr(inside, _MARK, True)
    setattr(manager, name, inside)


def _class_of_managers() -> Any:
    return getattr(ray.experimental, "RDTManager", None) or getattr(ray.experimental, "GPUObjectManager", None)


def is_to_come(manager: Any, reference: Any, backend: str) -> bool:
    """Is it a reference to an object of this transport that, as far as this process knows, another one has still to make?"""
    found = _metadata_of(manager, reference)
    if found is None or found.tensor_transport_backend != backend or found.tensor_transport_meta is not None:
        return False
    return bool(getattr(found.src_actor, "_actor_id", None) != ray._private.worker.global_worker.actor_id)


def _metadata_of(manager: Any, reference: Any) -> Any:
    if not isinstance(reference, ray.ObjectRef):
        return None
    look_up = getattr(manager, "get_rdt_metadata", None) or manager.get_gpu_object_metadata
    return look_up(reference.hex())


def why_gets_are_bare() -> str:
    """Why nothing of ours can stand around a ``ray.get``, and what is lost by that. Empty where something does, or need not."""
    if not hasattr(TensorTransportManager, "fetch_multiple_tensors"):  # Ray 2.54 and 2.55
        return ""
    found = inspect.getattr_static(_class_of_managers(), _GETS, None)
    if _is_plain(found):
        return ""
    kind = "does not exist" if found is None else f"is no plain function but {found!r}"
    return (
        f"ray.experimental.RDTManager.{_GETS} {kind} in Ray {ray.__version__}, which ray-hixl does not know. So a ray.get that fails "
        "(by its timeout, by Ctrl-C) does not end its other fetches: do not use the targets of set_target_for_ref after an error. Use a "
        "Ray that docs/ray.md names, or report it"
    )


def _is_plain(function: Any) -> bool:
    return isinstance(function, FunctionType) and not function.__code__.co_flags & _NOT_PLAIN


def register_transport(name: str, devices: list[str], manager: type) -> None:
    """Ray's own registration, with the arguments that this version takes."""
    register = _util.register_tensor_transport
    if "data_type" in inspect.signature(register).parameters:
        register(name, devices, manager, torch.Tensor)
    else:
        register(name, devices, manager)
