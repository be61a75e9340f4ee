"""``ray-hixl top``: what ray-hixl does in every process of a running cluster, read where Prometheus does: at the agents of its nodes."""

from __future__ import annotations

import http.client
import math
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ray
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ray_hixl.cli.cluster import join

_OURS = "ray_hixl_"
_ANSWER_S = 5.0
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_INSTALL = "pip install 'ray[default]' on that node, and start Ray there anew"

Key: TypeAlias = tuple[str, str]  # node's address, process id


@dataclass
class Figures:
    """Of one process at one time.

    :ivar actor: its name or class; empty for plain tasks.
    :ivar values: by metric (without ``ray_hixl_`` and ``_total``), then by the metric's own tag.
    """

    actor: str = ""
    values: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))

    def total(self, name: str) -> float | None:
        """Over the tag; None where there is no such metric now, as of gauges where a process is idle, or has ended."""
        return sum(self.values[name].values()) if name in self.values else None


@dataclass
class Snapshot:
    """:ivar unread: a line for each node that did not answer, and what to do."""

    taken: float
    processes: dict[Key, Figures]
    unread: list[str]
    answered: int


def read(nodes: Iterable[Mapping[str, Any]]) -> Snapshot:
    """Asks every node's agent. ``nodes``: as ``ray.nodes()`` describes them."""
    snapshot = Snapshot(time.monotonic(), {}, [], 0)
    for node in nodes:
        if not node["Alive"]:
            continue
        host, port = node["NodeManagerAddress"], node["MetricsExportPort"]
        if port <= 0:
            snapshot.unread.append(f"node {host} shows no metrics: its agent lacks what it needs for that. {_INSTALL}")
            continue
        try:
            found = by_process(host, _page(host, port))
        except (OSError, http.client.HTTPException, ValueError) as error:  # no answer; one that breaks off; one that is no such page
            why = f"{type(error).__name__}: {error}"
            snapshot.unread.append(f"node {host} shows no metrics at its port {port}: {why}. Does a firewall stop it? Else: {_INSTALL}")
            continue
        snapshot.answered += 1
        snapshot.processes.update(found)
    return snapshot


def by_process(host: str, text: str) -> dict[Key, Figures]:
    """What an agent's page says of ray-hixl."""
    found: dict[Key, Figures] = defaultdict(Figures)
    ours = "\n".join(line for line in text.splitlines() if _OURS in line) + "\n"
    for family in text_string_to_metric_families(ours):
        for sample in family.samples:
            labels = sample.labels
            figures = found[host, labels.get("pid", "?")]
            figures.actor = labels.get("actor") or figures.actor
            tag = next((labels[name] for name in ("transport", "code", "outcome", "arena") if name in labels), "")
            of_metric = figures.values[sample.name.removeprefix(_OURS).removesuffix("_total")]
            of_metric[tag] = of_metric.get(tag, 0.0) + sample.value
    return dict(found)


def table(now: Snapshot, before: Snapshot) -> Group:
    """Who did something between the two, or not long before, busiest first; then how many others there are, and what could not be read."""
    shown = Table(title=f"ray-hixl, rates over {now.taken - before.taken:.1f} s")
    for name in ("node", "pid", "actor"):
        shown.add_column(name)
    for name in ("in /s", "out /s", "fetches /s", "received", "failures", "links", "arenas: used of mapped"):
        shown.add_column(name, justify="right")
    rows, quiet = [], 0
    for key, figures in now.processes.items():
        rates = {name: _rates(name, figures, before.processes.get(key), now.taken - before.taken) for name in _RATED}
        if any(any(of_tag.values()) for of_tag in rates.values()) or figures.total("links") is not None:
            rows.append((_sum(rates["fetched_bytes"]) or 0.0, _row(key, figures, rates)))
        else:
            quiet += 1
    for _, row in sorted(rows, key=lambda one: -one[0]):
        shown.add_row(*row)
    notes = [f"{quiet} more, idle or ended"] if quiet else []
    if not now.processes and not now.unread:
        notes.append("No process has published or fetched by hixl yet.")
    return Group(shown, *(Text(note) for note in notes), *(Text(line, style="yellow") for line in now.unread))


_RATED = ("fetched_bytes", "served_bytes", "fetches", "fetch_failures")


def _rates(name: str, now: Figures, before: Figures | None, seconds: float) -> dict[str, float | None]:
    """By tag; None where that is not known: there was no value before, or it sank, as it does where what counts began anew."""
    earlier = before.values.get(name, {}) if before is not None else {}
    values = now.values.get(name, {}).items()
    return {tag: (value - earlier[tag]) / seconds if value >= earlier.get(tag, math.inf) else None for tag, value in values}


def _sum(rates: dict[str, float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [rate for rate in rates.values() if rate is not None]
    return sum(known) if known or not rates else None


def _row(key: Key, figures: Figures, rates: dict[str, dict[str, float | None]]) -> Iterator[str]:
    incoming, served, fetches = rates["fetched_bytes"], _sum(rates["served_bytes"]), _sum(rates["fetches"])
    yield from (*key, figures.actor or "(tasks)")
    yield "\n".join(f"{transport} {_size(rate)}" for transport, rate in sorted(incoming.items()) if rate != 0) or "0"
    yield _size(served)
    yield "-" if fetches is None else f"{fetches:.1f}"
    yield _size(figures.total("fetched_bytes") or 0)
    yield "\n".join(f"{code} {count:.0f}" for code, count in sorted(figures.values.get("fetch_failures", {}).items())) or "0"
    links, used, mapped = (figures.total(name) for name in ("links", "arena_used_bytes", "arena_mapped_bytes"))
    yield "-" if links is None else f"{links:.0f}"
    yield "-" if used is None or mapped is None else f"{_size(used)} of {_size(mapped)}"


def _size(count: float | None) -> str:
    if count is None:
        return "-"
    unit = 0
    while count >= 1024 and unit + 1 < len(_UNITS):
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def _page(host: str, port: int) -> str:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with urllib.request.urlopen(f"http://{place}/metrics", timeout=_ANSWER_S) as answer:
        return str(answer.read().decode())


def run(once: bool, interval: float) -> int:
    """Shows tables until Ctrl-C; with ``once`` one. 0 if any node answered."""
    join("auto", "top")
    before = read(ray.nodes())
    try:
        with Live(Text(f"reading for {interval:g} s ..."), auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                now = read(ray.nodes())
                live.update(table(now, before), refresh=True)
                if once:
                    return 0 if now.answered else 1
                before = now
    except KeyboardInterrupt:
        return 0
    finally:
        ray.shutdown()
