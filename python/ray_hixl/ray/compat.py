"""Everything of Ray that is private or differs between Ray versions, in one place.

One transport class serves Ray 2.54 and later. What changed between versions (module paths, the fetch request, the form of
``tensor_device``, the arguments of registration) is settled here once, at import.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import ray
import ray._private.ray_constants as _constants
import torch
from ray.exceptions import RaySystemError

_OLDEST = (2, 54)
_GETS = "fetch_and_get_rdt_objects"


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


@dataclass(frozen=True)
class _DeviceType:
    """What Ray 2.54 reads of a ``torch.device``. torch itself makes and unpickles one for an NPU only where torch_npu is loaded."""

    type: str


def tensor_device(device_type: str) -> Any:
    """A device type in the form that this Ray compares: text since 2.55, something with a ``type`` before."""
    return device_type if DEVICE_IS_TEXT else _DeviceType(device_type)


def fetch_timeout_s() -> float:
    """Seconds after which this Ray gives a transfer up (``RAY_rdt_fetch_fail_timeout_milliseconds``)."""
    return float(getattr(_constants, "RDT_FETCH_FAIL_TIMEOUT_SECONDS", 60.0))


def registered_class(name: str) -> type | None:
    """The class that holds a transport name in this process, if any."""
    info = _util.transport_manager_info.get(name.upper())
    return None if info is None else info.transport_manager_class


def around_every_get(scope: Callable[[], AbstractContextManager[Any]]) -> None:
    """Puts ``scope()`` around Ray's function that starts and waits for all fetches of one ``ray.get``, in this process. Once.

    Ray 2.54 and 2.55 have none: there each object of a ``ray.get`` is received before the next one is begun.
    """
    manager = getattr(ray.experimental, "RDTManager", None)
    fetch_and_get = getattr(manager, _GETS, None)
    if fetch_and_get is None or hasattr(fetch_and_get, "__wrapped__"):
        return

    @functools.wraps(fetch_and_get)
    def inside(*arguments: Any, **named: Any) -> Any:
        with scope():
            return fetch_and_get(*arguments, **named)

    setattr(manager, _GETS, inside)


def register_transport(name: str, devices: list[str], manager: type) -> None:
    """Ray's own registration, with the arguments that this version takes."""
    register = _util.register_tensor_transport
    if "data_type" in inspect.signature(register).parameters:
        register(name, devices, manager, torch.Tensor)
    else:
        register(name, devices, manager)
