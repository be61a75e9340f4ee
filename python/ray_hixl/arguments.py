"""Arguments that are refused by name, before anything is done with them."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any, SupportsIndex

from ray_hixl import _core
from ray_hixl.errors import InvalidArgument
from ray_hixl.options import Options

_DEVICES = "'cpu', 'npu' (the current one) or 'npu:<index>'"


def seconds(timeout: float | None, default: float) -> float:
    """A timeout of a call. :raises InvalidArgument: it is negative, or NaN. :raises TypeError: it is no number."""
    if timeout is None:
        return default
    if not isinstance(timeout, Real) or not timeout >= 0:
        raise _wrong(timeout, Real)(
            f"timeout takes seconds >= 0, or None for the engine's option ({default:g}); this is {described(timeout)}"
        )
    return _float(timeout)


def patience(timeout: float | None) -> float | None:
    """How long to wait at most. :raises InvalidArgument: it is NaN. :raises TypeError: it is no number."""
    if timeout is None:
        return None
    if not isinstance(timeout, Real) or timeout != timeout:  # NaN
        raise _wrong(timeout, Real)(f"timeout takes seconds, or None to wait to the end; this is {described(timeout)}")
    return _float(timeout)


def packed(value: Any, what: str) -> bytes:
    """Bytes that another call gave: ``what`` says which. :raises TypeError: something else."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"{what}, as bytes; this is {described(value)}")


def listed(values: Any, what: str) -> list[Any]:
    """``what`` is what there should be a list of. :raises TypeError: it is one such thing, or no list."""
    if isinstance(values, bytes | bytearray | memoryview | str) or hasattr(values, "__dlpack__") or not hasattr(values, "__iter__"):
        raise TypeError(f"a list of {what} is wanted, [x] for a single one; this is {described(values)}")
    return list(values)


def options(value: Any) -> Options | None:
    """:raises TypeError: it is neither ``Options`` nor None."""
    if value is None or isinstance(value, Options):
        return value
    raise TypeError(f"options must be ray_hixl.Options, not {type(value).__name__}: ray_hixl.Options(name=value, ...)")


def nbytes(value: Any) -> int:
    """:raises InvalidArgument: it is not from 0 to 2^64. :raises TypeError: it is no whole number."""
    if _is_length(value):
        return operator.index(value)
    hint = "" if isinstance(value, Real) else "; for a tensor of a shape there is ray_hixl.empty()"
    raise _wrong(value, SupportsIndex)(f"a number of bytes is wanted, from 0 to 2^64; this is {described(value)}{hint}")


def device(name: Any) -> int | None:
    """The index of an NPU by its name; ``_core.HOST`` for the CPU, None for ``"npu"``, the current one.

    :raises InvalidArgument: another device.
    :raises TypeError: neither a name nor a torch.device.
    """
    if not isinstance(name, str) and not hasattr(name, "type"):
        raise TypeError(f"device takes {_DEVICES}; this is {described(name)}")
    kind, colon, index = str(name).partition(":")
    if kind == "cpu" and (index == "0" or not colon):
        return _core.HOST
    if kind == "npu" and not colon:
        return None
    if kind != "npu" or not (index.isascii() and index.isdecimal()) or len(index) > 5:
        raise InvalidArgument(f"device takes {_DEVICES}; this is {str(name)!r}")
    return int(index)


def shape(size: Any) -> list[int]:
    """:raises InvalidArgument: a length below 0. :raises TypeError: it is neither a length nor a list of them."""
    lengths = list(size) if hasattr(size, "__iter__") else [size]
    if all(_is_length(length) for length in lengths):
        return [operator.index(length) for length in lengths]
    error = InvalidArgument if all(isinstance(length, SupportsIndex) for length in lengths) else TypeError
    raise error(f"a size is wanted, a whole number >= 0 or a list of them; this is {', '.join(described(each) for each in lengths)}")


def described(value: Any) -> str:
    """A number as it is. Of anything else its type, for an error: what it holds may be a secret."""
    if isinstance(value, Real) and (not isinstance(value, int) or abs(value) < 10**20):
        return repr(value)
    return f"of type {type(value).__name__}"


def _wrong(value: Any, kind: Any) -> type[Exception]:
    """The error of a wrong value of the right ``kind``, else of a wrong type."""
    return InvalidArgument if isinstance(value, kind) else TypeError


def _is_length(value: Any) -> bool:
    return hasattr(value, "__index__") and 0 <= operator.index(value) < 1 << 64


def _float(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # of a whole number
        return math.inf
