"""Which fetches belong to one ``ray.get``, so that when it fails none of them writes to its caller's memory any more.

Ray starts every fetch of a ``ray.get`` before it waits for the first one. It drops those that it has not waited for as soon as anything
fails: a wait, a check of the next object's targets, its own timeout between two waits (a timeout of 0 waits for none). Nobody is told, and
the traceback of the exception keeps the dropped requests alive, so that dropping them comes too late. So ``one_get`` stands around the
function of Ray in which all this happens (``compat.around_every_get``). A fetch belongs to it from within the call that begins it.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from ray.exceptions import GetTimeoutError, ObjectFetchTimedOutError

from ray_hixl import begun
from ray_hixl._core import Begun
from ray_hixl.ray import compat
from ray_hixl.ray.errors import HixlTransferError

if TYPE_CHECKING:
    from ray_hixl.ray.records import FetchRecord
    from ray_hixl.transfers import Fetch


class PendingFetch(compat.FetchRequest):
    """A fetch under way. Dropping it cancels what is not finished; the engine keeps the memory until nothing writes to it."""

    def __init__(self, obj_id: str, fetch: Fetch, get: Begun, record: FetchRecord) -> None:
        """``get``: the ``ray.get`` that began it. ``record``: what is reported of it."""
        super().__init__(obj_id=obj_id, tensors=[])
        self.fetch = fetch
        self.get = get
        self.record = record
        fetch.cancel_when_dropped()


def one_get() -> Begun:
    """Around what starts and waits for the fetches of one ``ray.get``, all in this thread. Whatever it raises is raised once they ended:
    all are cancelled, and those that write to targets are waited for. Memory of the engine's own is not waited for.
    """
    return begun.ended_on_error(partial(_conclude, sys.exc_info()[1]))


def _conclude(handled: BaseException | None, error: BaseException, writing: list[str]) -> BaseException:
    """What a ``ray.get`` raises, which was called where ``handled`` was handled.

    Ray takes every ``TimeoutError`` of a transport for the end of its own or its caller's time, also ``TransferTimeout``, and raises one of
    its own in place of it, which knows neither the peer nor what happened.
    """
    meant = error.__context__ if isinstance(error, GetTimeoutError | ObjectFetchTimedOutError) else None
    return begun.tell(meant if isinstance(meant, HixlTransferError) and meant is not handled else error, writing)


def this_get() -> AbstractContextManager[Begun]:
    """The ``ray.get`` that this thread is in, else one of its own."""
    current = Begun.current()
    return one_get() if current is None else nullcontext(current)


def get_of(request: PendingFetch) -> AbstractContextManager[Begun]:
    """Around waiting for a request: part of the ``ray.get`` that began it, else one of its own."""
    if request.get is Begun.current():
        return nullcontext(request.get)
    own = one_get()
    request.fetch.end_with(own, request.obj_id)
    return own
