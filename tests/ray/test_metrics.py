"""Metrics of real actors, as Prometheus sees them at the agents of Ray; and what is made of the counters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

import actors
import ray_hixl
from documents import table
from ray_hixl import process
from ray_hixl.ray import metrics, reporter, transport
from ray_hixl.ray.metadata import TransferMetadata
from ray_hixl.ray.metrics import METRICS
from ray_hixl.ray.records import FetchRecord, PublishRecord
from versions import ray_agent

STREAM = {"env_vars": {"RAY_HIXL_TRANSPORTS": "stream"}}
# What there is only with NPUs, or where something went wrong.
NOT_ALWAYS = {"hixl_links_lost", "hixl_handshakes_refused", "hixl_registrations"}


def samples() -> Iterator[Any]:
    """Those of ray-hixl that Ray's agents show now."""
    from prometheus_client.parser import text_string_to_metric_families

    for node in ray.nodes():
        with urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=30) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                yield from (sample for sample in family.samples if sample.name.startswith("ray_hixl_"))


def value(name: str, **tags: Any) -> float:
    """The sum of all samples with these tags."""
    wanted = {tag: str(text) for tag, text in tags.items()}.items()
    return sum(sample.value for sample in samples() if sample.name == f"ray_hixl_{name}" and wanted <= sample.labels.items())


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


def hand_over(source: Any, consumer: Any, count: int) -> None:
    for seed in range(count):
        assert ray.get(consumer.call.remote(len, source.give.remote(actors.numbers, 100_000, seed))) == 100_000


@ray_agent
def test_prometheus_sees_what_each_process_did(fresh: Callable[..., Any]) -> None:
    """Bytes and fetches by transport, failures by cause, seconds by phase, arenas and links, of each process with its actor's name."""
    source, consumer, other = fresh(), fresh(name="by its own name"), fresh(runtime_env=STREAM)
    pids = ray.get([actor.call.remote(os.getpid) for actor in (source, consumer, other)])
    hand_over(source, consumer, 3)
    hand_over(source, other, 2)
    with pytest.raises(Exception, match="is quantized"):
        ray.get(consumer.call.remote(len, source.give.remote(quantized)))
    assert len(ray.get(source.give.remote(actors.numbers, 100_000, 7))) == 100_000

    expected = {
        ("fetched_bytes_total", "consumer", ("transport", "cma")): 300_000,
        ("fetches_total", "consumer", ("transport", "cma")): 3,
        ("fetches_total", "by its own name", ("pid", str(pids[1]))): 3,
        ("fetches_total", "driver", ("pid", str(os.getpid()))): None,
        ("fetch_failures_total", "consumer", ("code", "unsupported_tensor")): 1,
        ("fetched_bytes_total", "other", ("transport", "stream")): 200_000,
        ("served_bytes_total", "source", ()): 200_000,
        ("publish_failures_total", "source", ("code", "unsupported_tensor")): 1,
        ("publish_seconds_count", "source", ()): 6,
        ("transfers_total", "other", ("outcome", "succeeded")): 2,
    } | {
        ("fetch_seconds_count", "consumer", ("phase", phase)): 3
        for phase in ("queue", "fetch", "connect", "resolve", "move", "check", "take")
    }
    by_pid = dict(zip(("source", "consumer", "other"), pids, strict=True))

    def all_there() -> bool:
        for (name, who, tag), wanted in expected.items():
            process = {"pid": by_pid[who]} if who in by_pid else {"actor": who}
            seen = value(name, **process, **dict([tag] if tag else []))
            if seen != wanted and (wanted is not None or seen < 1):
                return False
        return True

    actors.eventually(all_there, 60.0)


@ray_agent
def test_the_last_second_of_an_actor_is_counted(fresh: Callable[..., Any]) -> None:
    """What it did while the reporter paused: two objects of one ray.get, then it ends."""
    source, consumer = fresh(), fresh()
    pid = ray.get(consumer.call.remote(os.getpid))
    references = ray.get(source.call.remote(actors.put_all, lambda: [torch.ones(100), torch.ones(100)]))
    ray.get(consumer.call.remote(actors.get, references))
    consumer.__ray_terminate__.remote()
    actors.eventually(lambda: value("fetches_total", pid=pid, actor="Peer") == 2, 60.0)


@ray_agent
def test_a_source_that_is_only_read_is_seen(fresh: Callable[..., Any]) -> None:
    """It published once, long ago: what leaves it makes no record there."""
    source, consumer = fresh(), fresh(runtime_env=STREAM)
    pid = ray.get(source.call.remote(os.getpid))
    references = ray.get(source.call.remote(actors.put_all, lambda: [torch.ones(1000)]))
    actors.eventually(lambda: value("objects_published_total", pid=pid) == 1, 60.0)
    for _ in range(3):
        ray.get(consumer.call.remote(actors.get, references))
    actors.eventually(lambda: value("served_bytes_total", pid=pid) == 12_000 and value("sessions", pid=pid) == 1, 60.0)


@ray_agent
def test_every_metric_of_the_table_is_exported(source: Any, consumer: Any, fresh: Callable[..., Any]) -> None:
    """And none that is not there, each with its tags."""
    streaming = fresh(runtime_env=STREAM)
    with pytest.raises(Exception, match="is quantized"):
        ray.get(consumer.call.remote(len, source.give.remote(quantized)))
    of_kind = {metrics.COUNTER: "_total", metrics.HISTOGRAM: "_count", metrics.GAUGE: ""}
    expected = {f"ray_{name}{of_kind[metric.kind]}": metric.tag for name, metric in METRICS.items() if name not in NOT_ALWAYS}
    seen: dict[str, set[str]] = {}

    def all_there() -> bool:  # gauges are there for a while after a transfer
        hand_over(source, consumer, 1)
        hand_over(source, streaming, 1)
        seen.update({sample.name: set(sample.labels) for sample in samples()})
        return expected.keys() <= seen.keys()

    actors.eventually(all_there, 60.0)
    histograms = [f"ray_{name}" for name, metric in METRICS.items() if metric.kind == metrics.HISTOGRAM]
    others = {f"ray_{name}{of_kind[METRICS[name].kind]}" for name in NOT_ALWAYS}
    assert seen.keys() <= expected.keys() | others | {name + part for name in histograms for part in ("_bucket", "_sum")}
    for name, tag in expected.items():
        assert {"pid", "actor", "NodeAddress", *filter(None, [tag])} <= seen[name], name


def test_the_table_of_the_documents_is_that_of_the_module() -> None:
    documented = [(name, kind, tag, meaning) for name, kind, tag, _, meaning in table("metrics.md", "| name | type |")]
    assert documented == [(name, *metric) for name, metric in METRICS.items()]


class Counted:
    """In place of a metric of Ray."""

    def __init__(self) -> None:
        self.sum = 0.0

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self.sum += value

    def set(self, value: float, tags: dict[str, str]) -> None:
        pass


class World:
    """What Metrics sees of Ray and of the engine, for a test to change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connected, self.stats = True, {"fetched": {}, "engines": 1, "resolved": 0}
        self._metric = Counted()
        self._metrics = metrics.Metrics()
        monkeypatch.setattr(ray, "is_initialized", lambda: self.connected)
        monkeypatch.setattr(process, "stats", lambda: self.stats)
        monkeypatch.setattr(metrics.Metrics, "_metric", lambda _, __: self._metric)

    def resolved_after(self, **changes: Any) -> float:
        """What is counted in all, once the counters are these."""
        self.stats.update(changes)
        self._metrics.take([], "")
        return self._metric.sum


def test_counters_go_on_when_another_engine_begins_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it has passed the former one's count by the next look."""
    world = World(monkeypatch)
    assert world.resolved_after(resolved=5) == 5
    assert world.resolved_after(resolved=7) == 7
    assert world.resolved_after(resolved=10, engines=2) == 17
    assert world.resolved_after(resolved=1, engines=3) == 18


def test_what_is_done_in_no_cluster_is_not_counted_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    assert world.resolved_after(resolved=5) == 5
    world.connected = False
    assert world.resolved_after(resolved=50) == 5
    world.connected = True
    assert world.resolved_after(resolved=52) == 7


_TWO_CLUSTERS = """
import os, sys, ray, torch, actors

for count in (3, 5):
    ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)
    source = actors.Peer.remote()
    for _ in range(count):
        ray.get(source.give.remote(torch.ones, 1000))
    ray.shutdown()
print(os.getpid(), flush=True)
os._exit(0)  # not in order: what is counted was counted by then
"""


@ray_agent
def test_all_that_was_done_before_ray_shutdown_is_counted(cluster: Any) -> None:
    """Up to the last moment, and once."""
    address = cluster.address_info["address"]
    done = subprocess.run([sys.executable, "-c", _TWO_CLUSTERS, address], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    pid = done.stdout.strip()
    actors.eventually(lambda: value("fetches_total", pid=pid, actor="driver") == 8, 60.0)
    assert value("fetched_bytes_total", pid=pid) == 32_000


def test_shutdown_of_an_engine_hands_on_its_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(reporter, "flush", lambda: flushed.append(ray_hixl.stats()["engines"]))
    monkeypatch.setattr(process, "_engine", ray_hixl.Engine())
    monkeypatch.setattr(process, "_engines", 7)
    ray_hixl.process.shutdown()
    assert flushed == [7]
    assert ray_hixl.stats() == {"fetched": {}, "engines": 7, "ray": transport.timings()}


def test_slabs_of_an_npu_are_an_arena() -> None:
    slabs = {"mapped_bytes": 64, "used_bytes": 16, "huge_bytes": 0, "segments": 1}
    found = metrics.gauges({"fetched": {}, "devices": [{"device": 1, "slabs": slabs, "registrations": 3}]})
    assert found == {
        ("hixl_arena_mapped_bytes", "npu:1"): 64,
        ("hixl_arena_used_bytes", "npu:1"): 16,
        ("hixl_arena_huge_bytes", "npu:1"): 0,
        ("hixl_arena_segments", "npu:1"): 1,
        ("hixl_registrations", "npu:1"): 3,
    }


def test_without_ray_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    own = metrics.Metrics()
    own.take([], "")
    assert own._made == {}


def test_the_dashboard_asks_for_what_is_exported() -> None:
    """All metrics, under the names and with the tags that Prometheus has, in panels that do not overlap."""
    dashboard = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "ray_hixl.json").read_text())
    of_kind = {metrics.COUNTER: "_total", metrics.HISTOGRAM: "_bucket", metrics.GAUGE: ""}
    tags = {f"ray_{name}{of_kind[metric.kind]}": {"NodeAddress", "pid", "actor", metric.tag, "le"} for name, metric in METRICS.items()}
    asked, places = set(), set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & places, panel["title"]
        places |= cells
        for target in panel["targets"]:
            (name,) = re.findall(r"\bray_hixl_\w+", target["expr"])
            by = [tag for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for tag in group.split(", ")]
            assert set(by) <= tags[name], target["expr"]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(by), target["expr"]
            asked.add(name)
    assert asked == tags.keys()
    assert {x for x, _ in places} == set(range(24))


def test_what_was_done_is_counted_by_what_brought_its_bytes_or_by_its_error() -> None:
    def fetched(moved: dict[str, int], code: str = "") -> FetchRecord:
        transfer: Any = SimpleNamespace(bytes_by_transport=lambda: moved, times=lambda: (1.0, 1.25, 1.25, 1.375, 1.5))
        return FetchRecord("an object", b"", TransferMetadata(), started=1.0, arrived=1.5, ended=1.75, transfer=transfer, code=code)

    mixed, empty, failed = fetched({"hixl": 8, "cma": 4}), fetched({}), fetched({"cma": 4}, code="peer_gone")
    published = PublishRecord("an object", started=1.0, ended=1.25)
    refused = PublishRecord("an object", started=1.0, ended=1.25, code="device_busy")
    assert metrics.counts([mixed, empty, failed, mixed, published, refused]) == {
        ("hixl_fetches", "cma+hixl"): 2,
        ("hixl_fetches", "none"): 1,
        ("hixl_fetch_failures", "peer_gone"): 1,
        ("hixl_publish_failures", "device_busy"): 1,
    }
    queue, *others = metrics.durations([mixed, failed, published, refused])
    assert queue[0] == ("hixl_fetch_seconds", "queue")
    phases = {"fetch": 0.5, "take": 0.25, "connect": 0.25, "resolve": 0.0, "move": 0.125, "check": 0.125}
    assert others == [
        *((("hixl_fetch_seconds", phase), seconds) for phase, seconds in phases.items()),
        (("hixl_publish_seconds", ""), 0.25),
    ]
