"""What a call begins must not outlive it where it raises: an interrupt (Ctrl-C), too, leaves nobody who could cancel or wait for it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ray_hixl import _core

logger = logging.getLogger(__name__)

STOP_S = 1.0  # for everything that one call began together
_STILL_WRITING = "may still be written"  # also how the engine ends a transfer that something has not let go of


def tell(error: BaseException, writing: list[str]) -> BaseException:
    """``error``, which says to what memory something may still write. Telling it twice is as good as once."""
    if not writing or (len(writing) == 1 and _STILL_WRITING in str(error)):
        return error
    text = f"the target buffers of {', '.join(writing)} {_STILL_WRITING}: do not use them; they are kept until nothing writes any more"
    if text in _said_by(error):
        return error
    if error.args == () or (len(error.args) == 1 and isinstance(error.args[0], str)):
        error.args = ("; ".join(filter(None, [*error.args, text])),)
    if text not in str(error):  # its class makes its text out of other things
        _add_note(error, text)
    return error


def ended_on_error(conclude: Callable[[BaseException, list[str]], BaseException] = tell) -> _core.Begun:
    """A block that ends what it began before it raises; ``conclude`` as for ``_core.Begun``."""
    return _core.Begun(STOP_S, conclude)


def _said_by(error: BaseException) -> str:
    return " ".join([str(error), *getattr(error, "__notes__", [])])


def _add_note(error: BaseException, text: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(text)
    else:  # Python 3.10
        logger.warning("%s: %s", type(error).__name__, text)
