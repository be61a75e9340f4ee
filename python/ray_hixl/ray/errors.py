"""The errors of ray_hixl as Ray users catch them: each is its ray_hixl class and ``RayDirectTransportError`` at once."""

from __future__ import annotations

from typing import Any

from ray_hixl import errors
from ray_hixl.ray.compat import RayDirectTransportError


class HixlTransferError(errors.HixlError, RayDirectTransportError):
    """Base of what a failed transfer raises under Ray. ``ray_class`` makes one for each ray_hixl error."""

    def __str__(self) -> str:
        return errors.HixlError.__str__(self)


_classes: dict[type[errors.HixlError], type[HixlTransferError]] = {errors.HixlError: HixlTransferError}


def ray_class(plain: type[errors.HixlError]) -> type[HixlTransferError]:
    """The class derived from both ``plain`` and ``RayDirectTransportError``; the same one every time."""
    if plain not in _classes:
        _classes[plain] = type(plain.__name__, (plain, HixlTransferError), {"__reduce__": _reduce, "__module__": __name__})
    return _classes[plain]


def _reduce(error: HixlTransferError) -> tuple[Any, ...]:
    plain = next(base for base in type(error).__mro__ if base in _classes)
    return rebuild, (plain, str(error), error.code)


def rebuild(plain: type[errors.HixlError], message: str, code: str) -> HixlTransferError:
    """An error that was pickled."""
    return to_ray(plain(message, code=code))


def to_ray(error: errors.HixlError, about: str = "") -> HixlTransferError:
    """``error`` as the class that Ray users catch. ``about``: Ray's name of the object, if it is not told yet."""
    if isinstance(error, HixlTransferError):
        return error
    raised = ray_class(type(error))(f"{about}: {error}" if about else str(error), code=error.code)
    raised.client_exc = error  # what RaySystemError's constructor would set
    raised.traceback_str = None
    return raised
