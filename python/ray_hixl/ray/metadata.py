"""What travels through Ray: an object's metadata, and one transfer's communicator metadata."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ray_hixl.errors import HixlError
from ray_hixl.ray import compat

logger = logging.getLogger(__name__)

_MOST_AGES = 10.0  # an age above so many timeouts is a wrong clock, too
_MARGIN = 0.9  # our deadline ends inside Ray's, so that the error reaches the consumer it belongs to
LAST_CHANCE_S = 2.0


_call_on_arrival: Callable[[], None] | None = None


def on_arrival(call: Callable[[], None]) -> None:
    """``call`` is made from now on whenever an object's metadata arrives in this process, in any thread. It never raises."""
    global _call_on_arrival
    _call_on_arrival = call


@dataclass(eq=False)
class ObjectMetadata(compat.TensorTransportMetadata):
    """An object's metadata. ``tensor_meta`` expands lazily out of ``packed``.

    ``failure`` stands in for ``packed`` where the source process has no engine: Ray must get metadata in any case, since an exception while
    publishing would kill the actor or leak the object on some versions.
    """

    packed: bytes = b""
    failure: HixlError | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Where it arrives it is to be fetched, whatever that process is and however it began."""
        self.__dict__.update(state)
        if _call_on_arrival is not None:
            _call_on_arrival()


@functools.cache
def _clocks_may_differ() -> None:
    """Said once: it is so for every transfer then."""
    logger.warning(
        "a transfer began after Ray's own timeout for it, by the clocks of the host that submitted it and of this one: either it waited so "
        "long behind others, or the clocks differ. Then every transfer has only %g s, which is too little for much: synchronise the clocks "
        "(NTP)",
        LAST_CHANCE_S,
    )


@dataclass
class TransferMetadata(compat.CommunicatorMetadata):
    """One transfer: its id, and when Ray started to count its fetch timeout."""

    transfer_id: bytes = field(default_factory=lambda: os.urandom(12))
    submitted_at: float = field(default_factory=time.time)
    timeout_s: float = field(default_factory=compat.fetch_timeout_s)

    def age_s(self, now: float | None = None) -> float:
        """Seconds since Ray submitted it; 0 where the clocks of the two hosts are too far apart to tell."""
        age = (time.time() if now is None else now) - self.submitted_at
        return max(age, 0.0) if age <= _MOST_AGES * self.timeout_s else 0.0

    def budget_s(self, now: float | None = None) -> float:
        """Seconds that a fetch may still take, so that it ends before Ray gives up.

        Ray hands an error that comes after its own timeout to the *next* fetch of the object. With nothing left, the fetch is tried for two
        more seconds: its bytes are right for whoever gets them.
        """
        age = self.age_s(now)
        if age < self.timeout_s:
            return _MARGIN * (self.timeout_s - age)
        _clocks_may_differ()
        return LAST_CHANCE_S
