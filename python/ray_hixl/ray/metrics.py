"""Metrics of this process through ``ray.util.metrics``: docs/metrics.md has the table.

Ray hands them to the agent of its node, which Prometheus asks. Counters are what ``ray_hixl.stats()`` has counted since the last time, and
the records; each metric is made when it first has a value.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import ray

from ray_hixl import process
from ray_hixl.ray.records import PublishRecord, Record

Key: TypeAlias = tuple[str, str]  # a metric's name, and the value of its own tag; empty where it has none


class Metric(NamedTuple):
    """:ivar tag: its own, beside those of every metric; empty where it has none."""

    kind: str
    tag: str
    meaning: str


COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
PREFIX = "ray_"  # Ray puts it before every name; and "_total" behind a counter's
COMMON_TAGS = ("pid", "actor")
METRICS = {
    "hixl_fetched_bytes": Metric(COUNTER, "transport", "payload bytes received"),
    "hixl_served_bytes": Metric(COUNTER, "", "payload bytes that this process itself sent, over a socket or staged"),
    "hixl_fetches": Metric(COUNTER, "transport", "objects fetched with success, by what brought their bytes"),
    "hixl_fetch_failures": Metric(COUNTER, "code", "objects whose fetch failed, by the error's code"),
    "hixl_fetch_seconds": Metric(HISTOGRAM, "phase", "of a fetch with success: queue, fetch (in it connect, resolve, move, check), take"),
    "hixl_publish_failures": Metric(COUNTER, "code", "objects that could not be published, by the error's code"),
    "hixl_publish_seconds": Metric(HISTOGRAM, "", "of the publishing of an object, with success"),
    "hixl_transfers": Metric(COUNTER, "outcome", "transfers of the engine that ended, fetches and reads: succeeded, failed"),
    "hixl_objects_published": Metric(COUNTER, "", "objects published"),
    "hixl_resolved": Metric(COUNTER, "", "how often peers asked for the addresses of a region or an object"),
    "hixl_links_lost": Metric(COUNTER, "", "links that broke"),
    "hixl_handshakes_refused": Metric(COUNTER, "", "peers that did not prove who they are, or were refused"),
    "hixl_objects": Metric(GAUGE, "", "objects published and not freed"),
    "hixl_links": Metric(GAUGE, "", "links open to sources"),
    "hixl_sessions": Metric(GAUGE, "", "links open from consumers"),
    "hixl_transfers_in_flight": Metric(GAUGE, "", "transfers under way"),
    "hixl_quarantined_bytes": Metric(GAUGE, "", "memory of ended transfers that something may still write to"),
    "hixl_arena_mapped_bytes": Metric(GAUGE, "arena", "memory taken: source, landing, npu:<index> for the slabs of an NPU"),
    "hixl_arena_used_bytes": Metric(GAUGE, "arena", "memory of it in use"),
    "hixl_arena_huge_bytes": Metric(GAUGE, "arena", "memory taken in huge pages; 0 of an NPU"),
    "hixl_arena_segments": Metric(GAUGE, "arena", "segments, or slabs"),
    "hixl_registrations": Metric(GAUGE, "device", "allocations that HIXL knows"),
}
_SECONDS = [round(step * 10.0**power, 6) for power in range(-5, 2) for step in (1, 2, 5)]  # 10 us to 50 s
_COUNTED = ("served_bytes", "objects_published", "resolved", "links_lost", "handshakes_refused")
_NOW = ("objects", "links", "sessions", "transfers_in_flight", "quarantined_bytes")


class Metrics:
    """The metrics of this process. One thread."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._counted: dict[Key, float] = {}
        self._engines = 0

    def take(self, records: Sequence[Record], actor: str) -> None:
        """Counts the records, and what has changed since the last call. In no cluster nothing: it is not the next one's either."""
        stats = process.stats()
        more = self._increases(stats)
        if not ray.is_initialized():
            return
        common = {"pid": str(os.getpid()), "actor": actor}
        for (name, own), value in (more | counts(records)).items():
            if value > 0:
                self._metric(name).inc(value, self._tags(name, own, common))
        for (name, own), value in gauges(stats).items():
            self._metric(name).set(value, self._tags(name, own, common))
        for (name, own), value in durations(records):
            self._metric(name).observe(value, self._tags(name, own, common))

    def close(self) -> None:
        """Nothing: Ray hands on what it has when it ends."""

    def _increases(self, stats: dict[str, Any]) -> dict[Key, float]:
        """What was counted since the last call; by an engine that was not there then, all of it."""
        before = self._counted if stats["engines"] == self._engines else {}
        self._counted, self._engines = counters(stats), stats["engines"]
        return {key: value - before.get(key, 0) for key, value in self._counted.items()}

    def _metric(self, name: str) -> Any:
        from ray.util import metrics  # here, where its failing fails nothing else

        if name not in self._made:
            kind, tag, meaning = METRICS[name]
            tags = (*COMMON_TAGS, tag) if tag else COMMON_TAGS
            if kind == HISTOGRAM:
                self._made[name] = metrics.Histogram(name, meaning, _SECONDS, tags)
            else:
                self._made[name] = (metrics.Counter if kind == COUNTER else metrics.Gauge)(name, meaning, tags)
        return self._made[name]

    @staticmethod
    def _tags(name: str, own: str, common: dict[str, str]) -> dict[str, str]:
        return common | {METRICS[name].tag: own} if own else common


def counters(stats: dict[str, Any]) -> dict[Key, float]:
    """Those that ``ray_hixl.stats()`` counts. Empty where no engine was started."""
    found: dict[Key, float] = {("hixl_fetched_bytes", transport): count for transport, count in stats["fetched"].items()}
    found |= {(f"hixl_{name}", ""): stats[name] for name in _COUNTED if name in stats}
    found |= {("hixl_transfers", how): stats[f"transfers_{how}"] for how in ("succeeded", "failed") if f"transfers_{how}" in stats}
    return found


def gauges(stats: dict[str, Any]) -> dict[Key, float]:
    """What ``ray_hixl.stats()`` says of now. Empty where no engine was started."""
    found: dict[Key, float] = {(f"hixl_{name}", ""): stats[name] for name in _NOW if name in stats}
    devices = {f"npu:{device['device']}": device for device in stats.get("devices", [])}
    arenas = {name: stats[name] for name in ("source", "landing") if name in stats}
    for arena, of_arena in (arenas | {name: device["slabs"] for name, device in devices.items()}).items():
        found |= {(f"hixl_arena_{name}", arena): of_arena[name] for name in ("mapped_bytes", "used_bytes", "huge_bytes", "segments")}
    return found | {("hixl_registrations", name): device["registrations"] for name, device in devices.items()}


def counts(records: Iterable[Record]) -> dict[Key, float]:
    """How many fetches ended how, and how many publishes failed by what; those that did not the engine counts."""
    return dict(Counter(key for record in records if (key := _counted_as(record)) is not None))


def _counted_as(record: Record) -> Key | None:
    if isinstance(record, PublishRecord):
        return ("hixl_publish_failures", record.code) if record.code else None
    return ("hixl_fetch_failures", record.code) if record.code else ("hixl_fetches", record.transport)


def durations(records: Iterable[Record]) -> Iterable[tuple[Key, float]]:
    """The seconds of every record. Of what failed none: they say how long somebody was willing to wait."""
    for record in records:
        if record.code:
            continue
        if isinstance(record, PublishRecord):
            yield ("hixl_publish_seconds", ""), record.ended - record.started
        else:
            yield ("hixl_fetch_seconds", "queue"), record.queue_s
            yield ("hixl_fetch_seconds", "fetch"), record.arrived - record.started
            yield ("hixl_fetch_seconds", "take"), record.ended - record.arrived
            for phase, begin, end in record.phases():
                yield ("hixl_fetch_seconds", phase), end - begin
