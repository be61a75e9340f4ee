"""Which fetches belong to one ``ray.get``, so that when it fails none of them writes to its caller's memory any more.

Ray starts every fetch of a ``ray.get`` before it waits for the first one. It drops those that it has not waited for as soon as anything
fails: a wait, a check of the next object's targets, its own timeout between two waits (a timeout of 0 waits for none). Nobody is told, and
the traceback of the exception keeps the dropped requests alive, so that ``__del__`` comes too late. So ``one_get`` stands around the
function of Ray in which all this happens (``compat.around_every_get``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray_hixl.errors import HixlError
from ray_hixl.ray import compat

if TYPE_CHECKING:
    from ray_hixl.engine import Fetch

STOP_S = 1.0  # for all requests of a ray.get together
_STILL_WRITING = "may still be written"  # how the engine ends a transfer that something has not let go of


class PendingFetch(compat.FetchRequest):
    """A fetch under way. Dropping it cancels what is not finished; the engine keeps the memory until nothing writes to it."""

    def __init__(self, obj_id: str, fetch: Fetch) -> None:
        super().__init__(obj_id=obj_id, tensors=[])
        self.fetch = fetch

    def __del__(self) -> None:
        fetch = getattr(self, "fetch", None)
        if fetch is not None and not fetch.done:
            fetch.cancel()


class _Gets(threading.local):
    """The requests of each ``ray.get`` that this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[list[PendingFetch]] = []


_gets = _Gets()


@contextmanager
def one_get() -> Iterator[None]:
    """Around what starts and waits for the fetches of one ``ray.get``, all in this thread. Whatever it raises is raised once they ended."""
    begun: list[PendingFetch] = []
    _gets.stack.append(begun)
    try:
        yield
    except BaseException as error:
        _tell(error, give_up(begun))
        raise
    finally:
        _gets.stack.pop()


@contextmanager
def get_of(request: PendingFetch) -> Iterator[None]:
    """Around waiting for a request: part of the ``ray.get`` that began it, else one of its own."""
    if _gets.stack and any(request is begun for begun in _gets.stack[-1]):
        yield
        return
    with one_get():
        add(request)
        yield


def add(request: PendingFetch) -> None:
    """Belongs to the ``ray.get`` that this thread is in, if it is in one."""
    if _gets.stack:
        _gets.stack[-1].append(request)


def give_up(requests: Iterable[PendingFetch]) -> list[PendingFetch]:
    """Cancels, and waits until nothing writes to targets any more, for at most ``STOP_S``. Memory of the engine's own is not waited for.

    :returns: those to whose targets something may still write.
    """
    listed = list(requests)
    for request in listed:
        request.fetch.cancel()
    end = time.monotonic() + STOP_S
    interrupts: list[BaseException] = []
    writing = [request for request in listed if request.fetch.writes_targets and not _stopped(request.fetch, end, interrupts)]
    if interrupts:
        raise interrupts[0]
    return writing


def _stopped(fetch: Fetch, end: float, interrupts: list[BaseException]) -> bool:
    """Waits until ``end``; what interrupts it meanwhile (Ctrl-C) is collected, since the memory must not go back earlier."""
    while True:
        try:
            return fetch.wait(max(end - time.monotonic(), 0.0))
        except HixlError as error:
            return _STILL_WRITING not in str(error)
        except BaseException as interrupt:
            interrupts.append(interrupt)
            if time.monotonic() > end:
                return False


def _tell(error: BaseException, writing: list[PendingFetch]) -> None:
    if not writing or _STILL_WRITING in str(error):
        return
    objects = ", ".join(request.obj_id for request in writing)
    text = f"the target buffers of {objects} {_STILL_WRITING}: do not use them; they are kept until nothing writes any more"
    error.args = (f"{error}; {text}", *error.args[1:])
    if text not in str(error) and hasattr(error, "add_note"):  # a class of Ray's that makes its text out of other things
        error.add_note(text)
