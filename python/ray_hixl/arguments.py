"""Arguments that are refused by name, before anything is done with them."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any

from ray_hixl.errors import InvalidArgument
from ray_hixl.options import Options


def seconds(timeout: float | None, default: float) -> float:
    """A timeout of a call. :raises InvalidArgument: it is negative, or no number."""
    if timeout is None:
        return default
    if not isinstance(timeout, Real) or not timeout >= 0:
        raise InvalidArgument(f"timeout takes seconds >= 0, or None for the engine's option ({default:g}), not {timeout!r}")
    return float(timeout)


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
    """:raises TypeError: it is no whole number >= 0."""
    number = operator.index(value) if hasattr(value, "__index__") else -1
    if number >= 0:
        return number
    raise TypeError(f"a number of bytes >= 0 is wanted, not {value!r}; for a tensor of a shape there is ray_hixl.empty()")


def described(value: Any) -> str:
    """A value's type, for an error: never its contents, which may be a secret."""
    return f"of type {type(value).__name__}"
