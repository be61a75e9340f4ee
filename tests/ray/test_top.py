"""``ray-hixl top``: the table of a real cluster, and what is said where a node cannot be read."""

from __future__ import annotations

import http.server
import io
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import ray
from click.testing import CliRunner
from rich.console import Console

import actors
from versions import ray_agent

pytest.importorskip("prometheus_client", reason="top needs prometheus_client")
from ray_hixl.cli import top
from ray_hixl.cli.__main__ import main
from ray_hixl.ray import compat

PAGE = """# HELP ray_other_total Of others.
# TYPE ray_other_total counter
ray_other_total{pid="7"} 5
# HELP ray_hixl_fetched_bytes_total payload bytes received
# TYPE ray_hixl_fetched_bytes_total counter
ray_hixl_fetched_bytes_total{actor="",pid="7",transport="cma"} 1048576
ray_hixl_fetched_bytes_total{actor="Decode",pid="7",transport="cma"} 3145728
ray_hixl_fetched_bytes_total{actor="driver",pid="8",transport="stream"} 100
# HELP ray_hixl_links links open to sources
# TYPE ray_hixl_links gauge
ray_hixl_links{actor="Decode",pid="7"} 2
"""


def shown(now: top.Snapshot, before: top.Snapshot) -> list[str]:
    written = io.StringIO()
    Console(width=200, file=written).print(top.table(now, before))
    return written.getvalue().splitlines()


def snapshot(taken: float, page: str, *unread: str) -> top.Snapshot:
    return top.Snapshot(taken, top.by_process("192.0.2.1", page), list(unread), 1)


@ray_agent
def test_top_shows_what_moves(source: Any, consumer: Any) -> None:
    """While the consumer fetches all the time, and no longer than that."""
    pid = ray.get(consumer.call.remote(os.getpid))
    done = threading.Event()

    def fetch_all_the_time() -> None:
        while not done.is_set():
            ray.get(consumer.call.remote(len, source.give.remote(actors.numbers, 1_000_000, 1)))

    fetching = threading.Thread(target=fetch_all_the_time)
    fetching.start()
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "COLUMNS": "200"}
    seen: list[str] = []

    def is_shown() -> bool:
        ended = subprocess.run(
            [sys.executable, "-m", "ray_hixl.cli", "top", "--once", "--interval", "2"],
            **{"env": environment, "capture_output": True, "text": True, "check": False, "timeout": 120},
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        seen[:] = [line for line in ended.stdout.splitlines() if f" {pid} " in line and "cma " in line]
        return len(seen) == 1

    try:
        actors.eventually(is_shown, 60.0)
    finally:
        done.set()
        fetching.join()
    assert " Peer " in seen[0]


@pytest.mark.parametrize("command", [["top", "--once"], ["check"]])
def test_a_cluster_that_does_not_answer_is_named_at_once(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself tries for more than a minute."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    start = time.monotonic()
    ended = CliRunner().invoke(main, command)
    assert time.monotonic() - start < 20
    assert ended.exit_code == 1
    assert ":9': [" in ended.output
    assert "ray start" in ended.output


def test_no_cluster_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none(address: str) -> None:
        return None

    monkeypatch.setattr(compat._services, "canonicalize_bootstrap_address", find_none)
    ended = CliRunner().invoke(main, ["top", "--once"])
    assert ended.exit_code == 1
    assert "none answers at 'auto': there is none on this host" in ended.output


def test_rates_are_those_between_two_looks() -> None:
    before = snapshot(10.0, PAGE.replace("3145728", "1048576"))
    lines = shown(snapshot(12.0, PAGE), before)
    assert cells_of(lines, "Decode") == ["192.0.2.1", "7", "Decode", "cma 1.0 MiB", "0 B", "0.0", "4.0 MiB", "0", "2", "-"]
    assert "1 more, idle or ended" in lines, "the driver moved nothing"


def cells_of(lines: list[str], actor: str) -> list[str]:
    (found,) = [line for line in lines if actor in line]
    return [cell.strip() for cell in found.split("│")[1:-1]]


def test_no_rate_of_what_was_not_there_before() -> None:
    """A node that did not answer then, a process that is new: what was received since hours is no rate."""
    page = PAGE + 'ray_hixl_served_bytes_total{pid="7"} 5\nray_hixl_fetches_total{pid="7",outcome="ok"} 5\n'
    assert cells_of(shown(snapshot(12.0, page), snapshot(10.0, "")), "Decode")[3:7] == ["cma -", "-", "-", "4.0 MiB"]


def test_a_new_series_leaves_the_known_rates() -> None:
    before = PAGE + 'ray_hixl_fetches_total{pid="7",outcome="ok"} 5\n'
    page = PAGE + 'ray_hixl_fetches_total{pid="7",outcome="ok"} 9\nray_hixl_fetches_total{pid="7",outcome="failed"} 1\n'
    assert cells_of(shown(snapshot(12.0, page), snapshot(10.0, before)), "Decode")[3:6] == ["0", "0 B", "2.0"]


def test_no_rate_of_what_began_anew() -> None:
    before = snapshot(10.0, PAGE.replace("3145728", "31457280"))
    assert cells_of(shown(snapshot(12.0, PAGE), before), "Decode")[3] == "cma -"


@pytest.mark.parametrize(
    ("length", "page", "why"),
    [(1000, b"# cut", "IncompleteRead"), (3, b"\xff\xfe\xff", "UnicodeDecodeError"), (16, b"ray_hixl_links{x\n", "ValueError")],
    ids=["breaks off", "is no text", "is no such page"],
)
def test_an_answer_that_is_no_page_of_metrics_is_named(length: int, page: bytes, why: str) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        found = top.read([{"Alive": True, "NodeManagerAddress": "127.0.0.1", "MetricsExportPort": server.server_port}])
        answering.join()
    assert found.answered == 0
    assert f": {why}: " in found.unread[0]


def test_nodes_that_cannot_be_read_say_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        nodes = [
            {"Alive": True, "NodeManagerAddress": "192.0.2.1", "MetricsExportPort": -1},
            {"Alive": True, "NodeManagerAddress": "127.0.0.1", "MetricsExportPort": port},
            {"Alive": False, "NodeManagerAddress": "192.0.2.3", "MetricsExportPort": 1},
        ]
        found = top.read(nodes)
    assert found.answered == 0
    without, silent = found.unread
    assert without.startswith("node 192.0.2.1 shows no metrics: its agent lacks what it needs for that. pip install 'ray[default]'")
    assert silent.startswith(f"node 127.0.0.1 shows no metrics at its port {port}: ")
    assert "Connection refused" in silent
    assert shown(found, found)[-1].endswith("anew")


def test_a_cluster_that_shows_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "join", lambda address, command: "192.0.2.1:6379")
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "NodeManagerAddress": "192.0.2.1", "MetricsExportPort": -1}])
    ended = CliRunner().invoke(main, ["top", "--once", "--interval", "0.1"])
    assert ended.exit_code == 1
    assert "node 192.0.2.1 shows no metrics" in ended.output


def test_nothing_moved_yet_is_said() -> None:
    empty = snapshot(1.0, "")
    assert "No process has published or fetched by hixl yet." in shown(snapshot(2.0, ""), empty)
