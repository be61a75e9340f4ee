"""Every way a call of ray_hixl can fail. Each error says what failed, which object or peer, why, and what to do."""

from __future__ import annotations

from typing import Any


class HixlError(Exception):
    """Base of all errors of ray_hixl; raised itself only for defects of ray_hixl. Survives pickling with its attributes.

    :ivar code: stable lower-case name of the outcome, the same in C++, Python and on the wire, e.g. ``"peer_gone"``.
    """

    code: str = "internal"

    def __init__(self, message: str = "", code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.code)


class ConnectError(HixlError):
    """The peer could not be reached, refused, did not answer in time, or did not prove who it is."""

    code = "connect_error"


class TransferTimeout(HixlError, TimeoutError):
    """The deadline of a transfer passed."""

    code = "transfer_timeout"


class PeerGone(HixlError):
    """The peer's process or host died, hangs, or its link was lost."""

    code = "peer_gone"


class InvalidRegion(HixlError):
    """Unregistered, closed, stale, foreign or out-of-bounds memory."""

    code = "invalid_region"


class ObjectFreed(HixlError):
    """The object was freed before or while it was read."""

    code = "object_freed"


class Cancelled(HixlError):
    """The caller cancelled the transfer."""

    code = "cancelled"


class Closed(HixlError):
    """The engine, peer or region was closed, or belongs to the parent of a forked process."""

    code = "closed"


class UnsupportedTensor(HixlError):
    """A tensor that cannot be published or delivered: sparse, meta, quantized, nested, ..."""

    code = "unsupported_tensor"


class OutOfMemory(HixlError, MemoryError):
    """There is no memory for what was asked."""

    code = "out_of_memory"


class NotAvailable(HixlError):
    """Not possible on this machine or in this version; the message says why."""

    code = "not_available"


class InvalidArgument(HixlError, ValueError):
    """The caller passed something malformed."""

    code = "invalid_argument"


class DeviceBusy(HixlError, TimeoutError):
    """An NPU had not finished what was queued before the call when its time was over. It says nothing about the peer."""

    code = "device_busy"


_by_code: dict[str, type[HixlError]] = {error.code: error for error in HixlError.__subclasses__()}


def from_code(code: str, message: str) -> HixlError:
    """The error of a C++ outcome. Called by the binding."""
    return _by_code.get(code, HixlError)(message, code=code)
