"""A trace of a process: a file that viewers open, with every fetch and its phases."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

import actors
from ray_hixl.cli import doctor
from ray_hixl.ray.metadata import TransferMetadata
from ray_hixl.ray.records import FetchRecord, PublishRecord
from ray_hixl.ray.reporter import Reporter
from ray_hixl.ray.trace import Trace, events


def spans(trace: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What begins and ends, with both times; by name and number a pair."""
    begun: dict[Any, dict[str, Any]] = {}
    found = []
    for event in trace:
        if event["ph"] == "b":
            begun[event["name"], event["id"]] = event
        elif event["ph"] == "e":
            found.append({**begun.pop((event["name"], event["id"])), "end": event["ts"]})
    assert not begun
    return found


def test_a_trace_has_every_fetch_with_its_phases(fresh: Callable[..., Any], tmp_path: Path) -> None:
    """Of two objects of one ray.get; the process ended in order, so that the file is whole."""
    source, consumer = fresh(), fresh(runtime_env={"env_vars": {"RAY_HIXL_TRACE": str(tmp_path / "traces")}})
    pid = ray.get(consumer.call.remote(os.getpid))
    owner = ray.get(source.call.remote(os.getpid))
    references = ray.get(source.call.remote(actors.put_all, lambda: [torch.ones(1000), torch.ones(2000)]))
    ray.get(consumer.call.remote(actors.get, references))
    consumer.__ray_terminate__.remote()

    def whole_files() -> list[Path]:
        return [path for path in tmp_path.glob(f"traces/ray_hixl-*-{pid}-*.json") if path.read_text().endswith("\n]\n")]

    actors.eventually(whole_files, 30.0)
    (path,) = whole_files()
    trace = json.loads(path.read_text())
    assert trace[0]["name"] == "process_name"
    assert trace[0]["args"]["name"].startswith("Peer process ")
    whole = [span for span in spans(trace) if span["name"] == "fetch object"]
    bytes_of = {span["args"]["object"]: span["args"]["bytes"] for span in whole}
    assert bytes_of == {references[0].hex(): 4000, references[1].hex(): 8000}
    for span in whole:
        assert span["args"]["transport"] == "cma"
        assert span["args"]["peer"].startswith(f"engine of process {owner} at ")
        assert span["args"]["failed"] == ""
        queue, fetch, *phases, take = (one for one in spans(trace) if one["id"] == span["id"] and one["name"] != span["name"])
        assert [queue["name"], fetch["name"], take["name"]] == ["queue", "fetch", "take"]
        assert span["ts"] <= queue["ts"] <= queue["end"] <= fetch["ts"] <= fetch["end"] <= take["ts"] <= take["end"] <= span["end"]
        assert [phase["name"] for phase in phases] == ["connect", "resolve", "move", "check"]
        assert fetch["ts"] <= phases[0]["ts"]
        assert all(one["end"] == pytest.approx(after["ts"]) for one, after in pairwise(phases))
        assert phases[-1]["end"] <= fetch["end"]


def test_a_fetch_that_failed_has_no_tensors_made() -> None:
    record = FetchRecord("an object", b"", TransferMetadata(), started=10.0, ended=12.0, code="peer_gone")
    found = spans(list(events(record, 1)))
    assert [span["name"] for span in found] == ["fetch object", "queue", "fetch"]
    assert found[0]["args"]["failed"] == "peer_gone"
    assert found[2]["end"] - found[2]["ts"] == pytest.approx(2e6)


def test_a_publish_is_a_span() -> None:
    (span,) = spans(list(events(PublishRecord("an object", started=10.0, ended=10.5, code="device_busy"), 1)))
    assert (span["name"], span["args"]) == ("publish object", {"object": "an object", "failed": "device_busy"})
    assert span["end"] - span["ts"] == pytest.approx(5e5)


def test_what_a_killed_process_leaves_lacks_a_bracket_only(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    trace.take([PublishRecord("an object")], "")
    (path,) = tmp_path.iterdir()
    assert len(json.loads(path.read_text() + "]")) == 3


def test_processes_of_one_name_and_pid_write_files_of_their_own(tmp_path: Path) -> None:
    """As containers that share the host's name have them."""
    traces = [Trace(tmp_path), Trace(tmp_path)]
    for number, trace in enumerate(traces):
        trace.take([PublishRecord(f"object {number}")], "")
        trace.close()
    texts = [path.read_text() for path in tmp_path.iterdir()]
    assert sorted("object 1" in text for text in texts) == [False, True]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "same")
    Trace(tmp_path).take([], "")
    with pytest.raises(FileExistsError):
        Trace(tmp_path).take([], "")


def test_the_doctor_knows_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_HIXL_TRACE", "/tmp/traces")
    (found,) = [finding for finding in doctor._options() if finding.name == "RAY_HIXL_TRACE"]
    assert (found.verdict, found.found) == ("works", "/tmp/traces")


def test_a_folder_that_cannot_be_written_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    reporter = Reporter([Trace(Path("/proc/nowhere"))])
    for _ in range(2):
        reporter.put(PublishRecord("an object"))
    reporter.end()
    (line,) = caplog.messages
    assert line.startswith("no more trace of this process, transfers go on: FileNotFoundError")
