"""A trace of this process's fetches and publishes, in the format of Chrome's trace events, which https://ui.perfetto.dev shows.

Asked for by ``RAY_HIXL_TRACE=<folder>``; docs/metrics.md, "Trace". Written event by event: what a killed process leaves lacks the closing
bracket, which viewers do without.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from ray_hixl.ray.records import PublishRecord, Record, wall

VARIABLE = "RAY_HIXL_TRACE"

Event: TypeAlias = dict[str, Any]


class Trace:
    """A file of events. One thread."""

    def __init__(self, folder: Path) -> None:
        # Containers may share the folder and the host's name and have PIDs of their own, and a PID is used again.
        self._path = folder / f"ray_hixl-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.json"
        self._file: Any = None
        self._ids = count(1)

    def take(self, records: Sequence[Record], actor: str) -> None:
        """Writes their events. :raises OSError: the file cannot be written."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("x")
            name = {"name": " ".join(filter(None, (actor, f"process {os.getpid()} on {socket.gethostname()}")))}
            self._file.write("[\n" + json.dumps({"ph": "M", "name": "process_name", "pid": os.getpid(), "args": name}))
        for record in records:
            for event in events(record, next(self._ids)):
                self._file.write(",\n" + json.dumps(event))
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            self._file.write("\n]\n")
            self._file.close()


def trace_of_environment() -> list[Trace]:
    """The one that the environment asks for, if it does."""
    folder = os.environ.get(VARIABLE, "")
    return [Trace(Path(folder))] if folder else []


def events(record: Record, number: int) -> Iterator[Event]:
    """A record's span, and those of its phases inside. Spans of different records may overlap: ``number`` tells them apart."""
    epoch = wall(0.0)

    def span(name: str, begin: float, end: float, **arguments: Any) -> Iterator[Event]:
        place = {"cat": "hixl", "name": name, "id": number, "pid": os.getpid(), "tid": 0}
        yield {"ph": "b", "ts": (begin + epoch) * 1e6, "args": arguments, **place}
        yield {"ph": "e", "ts": (end + epoch) * 1e6, **place}

    if isinstance(record, PublishRecord):
        yield from span("publish object", record.started, record.ended, object=record.object_id, failed=record.code)
        return
    submitted = record.started - record.queue_s
    about = {"object": record.object_id, "peer": record.peer, "transport": record.transport, "bytes": record.nbytes, "failed": record.code}
    yield from span("fetch object", submitted, record.ended, **about)
    yield from span("queue", submitted, record.started)
    yield from span("fetch", record.started, record.arrived or record.ended)
    for phase, begin, end in record.phases():
        yield from span(phase, begin, end)
    if record.arrived:
        yield from span("take", record.arrived, record.ended)
