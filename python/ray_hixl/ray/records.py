"""What the transport did: one record of each fetch and publish, for ``reporter``; and the log's line of it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from ray_hixl import _core
from ray_hixl.errors import HixlError
from ray_hixl.ray.metadata import ObjectMetadata, TransferMetadata
from ray_hixl.transfers import phases

if TYPE_CHECKING:
    from ray_hixl.transfers import Fetch

logger = logging.getLogger(__name__)

_WORTH_A_LINE_S = 1.0  # whoever waits for less asks again


def wall(moment: float) -> float:
    """A moment of ``time.perf_counter``, in which records tell time, as one of ``time.time``."""
    return moment + time.time() - perf_counter()


@dataclass(slots=True)
class PublishRecord:
    """An object that was published, or could not be.

    :ivar ended: when its metadata was there.
    :ivar code: of the error that whoever fetches it gets instead; empty if it was published.
    """

    object_id: str
    started: float = field(default_factory=perf_counter)
    ended: float = 0.0
    code: str = ""

    def end(self, metadata: ObjectMetadata) -> None:
        """Its metadata is there. Where that says that it could not be published, the log says so, too."""
        self.ended = perf_counter()
        if (error := _failure_in(metadata)) is not None:
            self.code = error.code
            took, why = self.ended - self.started, str(error)  # handlers that keep what is logged must not keep the error
            logger.warning("object %s was not published: %s after %.3f s: %s", self.object_id, self.code, took, why)


@dataclass(slots=True)
class FetchRecord:
    """A fetch that somebody waited for until it ended.

    :ivar packed: the object's metadata.
    :ivar arrived: when whoever waits for it saw that every byte is there. It may have been there before.
    :ivar ended: when the tensors were made, or it failed.
    :ivar transfer: that brought it, or did not; None where it was not even started.
    :ivar code: of the error that it failed with; empty if it did not.
    """

    object_id: str
    packed: bytes
    communicator: TransferMetadata
    started: float = field(default_factory=perf_counter)
    arrived: float = 0.0
    ended: float = 0.0
    transfer: _core.Transfer | None = None
    code: str = ""

    @property
    def queue_s(self) -> float:
        """Seconds from Ray's submission until it was started; 0 where the clocks of the hosts do not tell."""
        return self.communicator.age_s(wall(self.started))

    @property
    def peer(self) -> str:
        """The engine that published the object, as errors name it."""
        try:
            return _core.Metadata.decode(self.packed).owner
        except HixlError:  # no engine there, or malformed metadata
            return "unknown engine"

    @property
    def transport(self) -> str:
        """By what its bytes came, ``"cma"`` or ``"cma+hixl"``; ``"none"`` where there were none."""
        return "+".join(sorted(self._moved())) or "none"

    @property
    def nbytes(self) -> int:
        """That came."""
        return sum(self._moved().values())

    def phases(self) -> list[tuple[str, float, float]]:
        """Name, begin and end of those of the transfer; none if it failed."""
        return [] if self.transfer is None or self.code else list(phases(self.transfer))

    def _moved(self) -> dict[str, int]:
        return {} if self.transfer is None else self.transfer.bytes_by_transport()

    def arrive(self) -> None:
        """Every byte is there."""
        self.arrived = perf_counter()

    def end(self, fetch: Fetch) -> None:
        """The tensors are made."""
        self.ended = perf_counter()
        self.transfer = fetch.core
        if logger.isEnabledFor(logging.DEBUG):
            took = self.ended - self.started
            logger.debug(
                "object %s came from the %s in %.6f s, %d bytes by %s",
                *(self.object_id, self.peer, took, self.nbytes, self.transport),
            )

    def is_late(self, timeout: float) -> None:
        """Whoever waits for it gives up after ``timeout`` seconds. Ray's error names neither the object nor the peer."""
        if timeout >= _WORTH_A_LINE_S:
            logger.warning(
                "object %s did not come from the %s within %g s, and is not waited for any more", self.object_id, self.peer, timeout
            )

    def fail(self, error: HixlError, fetch: Fetch | None = None) -> None:
        """It failed; the log says so."""
        self.ended = perf_counter()
        self.code = error.code
        if fetch is not None:
            self.transfer = fetch.core
        why = str(error)  # handlers that keep what is logged must not keep the error, which keeps its frames
        logger.warning(
            "object %s did not come from the %s: %s after %.3f s, %d bytes by %s: %s",
            *(self.object_id, self.peer, self.code, self.ended - self.started, self.nbytes, self.transport, why),
        )


def _failure_in(metadata: ObjectMetadata) -> HixlError | None:
    if metadata.failure is not None:
        return metadata.failure
    try:
        _core.Metadata.decode(metadata.packed).raise_failure()
    except HixlError as error:
        return error
    return None


Record = PublishRecord | FetchRecord
