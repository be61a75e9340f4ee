"""ray-hixl: point-to-point, one-sided tensor transport for Ray Direct Transport.

Importing it imports neither torch nor Ray; both come with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray_hixl._core import version as __version__
from ray_hixl.engine import Engine, Peer
from ray_hixl.errors import (
    Cancelled,
    Closed,
    ConnectError,
    DeviceBusy,
    HixlError,
    InvalidArgument,
    InvalidRegion,
    NotAvailable,
    ObjectFreed,
    OutOfMemory,
    PeerGone,
    TransferTimeout,
    UnsupportedTensor,
)
from ray_hixl.findings import Finding
from ray_hixl.options import Options
from ray_hixl.process import (
    deregister_memory,
    empty,
    register_memory,
    register_memory_pool,
    set_stream,
    shutdown,
    stats,
)
from ray_hixl.transfers import Fetch, Transfer

if TYPE_CHECKING:
    from ray_hixl.ray import HiXLTensorTransport, check, register, register_hixl_tensor_transport, runtime_env

_FROM_RAY = ("HiXLTensorTransport", "check", "register", "register_hixl_tensor_transport", "runtime_env")


def __getattr__(name: str) -> Any:
    if name in _FROM_RAY:
        from ray_hixl import ray

        return getattr(ray, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "Cancelled",
    "Closed",
    "ConnectError",
    "DeviceBusy",
    "Engine",
    "Fetch",
    "Finding",
    "HiXLTensorTransport",
    "HixlError",
    "InvalidArgument",
    "InvalidRegion",
    "NotAvailable",
    "ObjectFreed",
    "Options",
    "OutOfMemory",
    "Peer",
    "PeerGone",
    "Transfer",
    "TransferTimeout",
    "UnsupportedTensor",
    "__version__",
    "check",
    "deregister_memory",
    "empty",
    "register",
    "register_hixl_tensor_transport",
    "register_memory",
    "register_memory_pool",
    "runtime_env",
    "set_stream",
    "shutdown",
    "stats",
]
