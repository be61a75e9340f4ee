"""``ray_hixl.check``: why an actor would not receive, told in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

import actors
import ray_hixl
from ray_hixl import process
from ray_hixl.cli import check as command
from ray_hixl.findings import MISSING, REFUSED, WARNING, WORKS, Finding
from ray_hixl.ray import answers, checks, compat
from ray_hixl.versions import versions
from waiting import stop


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def verdicts(findings: list[Finding]) -> set[str]:
    return {finding.verdict for finding in findings}


def test_a_receiver_that_works(consumer: Any) -> None:
    findings = ray_hixl.check(consumer)
    assert verdicts(findings) <= {WORKS, REFUSED}
    assert "cma" in named(findings, "host memory").found
    assert "shm" in {finding.name for finding in findings if finding.verdict == REFUSED}, "why not a better one"


def test_an_actor_that_is_busy_answers(consumer: Any) -> None:
    busy = consumer.call.remote(time.sleep, 3)
    begin = time.monotonic()
    assert named(ray_hixl.check(consumer), "registered").verdict == WORKS
    assert not ray.wait([busy], timeout=0)[0], f"{time.monotonic() - begin:.1f} s"
    ray.get(busy)


def test_no_flag(cluster: Any) -> None:
    @ray.remote(num_cpus=0)
    class Plain:
        def sleep(self, seconds: float) -> None:
            time.sleep(seconds)

    plain = Plain.remote()
    found = named(ray_hixl.check(plain), "enable_tensor_transport")
    assert (found.verdict, "@ray.remote(enable_tensor_transport=True)" in found.remedy) == (MISSING, True)
    busy = plain.sleep.remote(30)
    found = named(ray_hixl.check(plain, timeout=0.5), "answer")
    assert (found.verdict, "busy" in found.found) == (MISSING, True)
    del busy
    ray.kill(plain)


def without_the_flag(actor: Any) -> Any:
    """A handle as one that was looked up by name in another job."""
    handle = ray.cloudpickle.loads(ray.cloudpickle.dumps(actor))
    handle._ray_enable_tensor_transport = False
    return handle


def test_a_handle_that_does_not_show_the_flag(consumer: Any) -> None:
    found = named(ray_hixl.check(without_the_flag(consumer)), "enable_tensor_transport")
    assert (found.verdict, "hand the handle" in found.remedy) == (WARNING, True)


def test_an_async_actor_shows_the_thread_that_the_handle_does_not(cluster: Any) -> None:
    receiver = actors.AsyncPeer.remote()
    found = named(ray_hixl.check(without_the_flag(receiver)), "enable_tensor_transport")
    assert (found.verdict, "hand the handle" in found.remedy) == (WARNING, True)
    ray.kill(receiver)


class Answering:
    def nothing(self) -> None:
        """Something to call."""


class AsyncAnswering:
    async def nothing(self) -> None:
        """Something to call."""


@pytest.mark.parametrize(
    ("answering", "options"),
    [(AsyncAnswering, {}), (Answering, {"max_concurrency": 2}), (Answering, {"concurrency_groups": {"theirs": 1}})],
    ids=["async", "threaded", "with groups of its own"],
)
def test_no_flag_on_an_actor_that_runs_calls_apart(cluster: Any, answering: type, options: dict[str, Any]) -> None:
    """That its answer comes from another thread than the main one shows nothing."""
    actor = ray.remote(num_cpus=0, **options)(answering).remote()
    found = named(ray_hixl.check(actor), "enable_tensor_transport")
    assert (found.verdict, "@ray.remote(enable_tensor_transport=True)" in found.remedy) == (MISSING, True)
    if "concurrency_groups" not in options:  # a handle that was looked up does not show whose groups they are
        assert named(ray_hixl.check(without_the_flag(actor)), "enable_tensor_transport").verdict == MISSING
    ray.kill(actor)


def test_out_of_order(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = actors.AsyncPeer.remote()
    assert named(ray_hixl.check(receiver), "order of calls").verdict == WORKS
    monkeypatch.setattr(process, "options", lambda: ray_hixl.Options(ray_wait_for_source=False))
    found = named(ray_hixl.check(receiver), "order of calls")
    assert (found.verdict, "ray.wait" in found.remedy) == (WARNING, True)
    ray.kill(receiver)


def test_dead(fresh: Any) -> None:
    actor = fresh()
    actors.kill(ray.get(actor.call.remote(lambda: __import__("os").getpid())))
    found = named(ray_hixl.check(actor), "answer")
    assert (found.verdict, "not there any more" in found.found) == (MISSING, True)


def test_not_installed_there(fresh: Any) -> None:
    actor = fresh()

    def uninstall() -> None:
        class Missing:
            def find_spec(self, name: str, *_: Any) -> None:
                if name.partition(".")[0] == "ray_hixl":
                    raise ModuleNotFoundError(f"No module named {name!r}")

        sys.meta_path.insert(0, Missing())  # type: ignore[arg-type]
        for name in [name for name in sys.modules if name.partition(".")[0] == "ray_hixl"]:
            del sys.modules[name]

    ray.get(actor.call.remote(uninstall))
    found = named(ray_hixl.check(actor), "ray_hixl")
    assert (found.verdict, "pip install" in found.remedy) == (MISSING, True)


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """An engine that ``check`` takes for the one of this process, in a process that stands still, as if packets to it were swallowed."""
    engine = "import ray_hixl, time; own = ray_hixl.Engine(); print(own.descriptor.hex(), flush=True); time.sleep(600)"
    stopped = subprocess.Popen([sys.executable, "-c", engine], stdout=subprocess.PIPE, text=True)
    assert stopped.stdout is not None
    descriptor = bytes.fromhex(stopped.stdout.readline())
    stop(stopped.pid)
    monkeypatch.setattr(process, "engine", lambda: SimpleNamespace(descriptor=descriptor))
    yield stopped
    stopped.kill()
    stopped.wait()


def test_an_engine_that_is_gone(consumer: Any, asker: subprocess.Popen[str]) -> None:
    asker.kill()
    asker.wait()
    found = named(ray_hixl.check(consumer), "connection")
    assert (found.verdict, "PeerGone" in found.found, "Options.host" in found.remedy) == (MISSING, True, True)


def test_where_packets_are_swallowed_the_actor_says_so_in_time(consumer: Any, asker: subprocess.Popen[str]) -> None:
    findings = ray_hixl.check(consumer, timeout=6.0)
    assert "ConnectError" in named(findings, "connection").found
    assert named(findings, "registered").verdict == WORKS, "the rest is told, too"


def test_the_actor_connects_no_longer_than_its_option(fresh: Any, asker: subprocess.Popen[str]) -> None:
    actor = fresh(runtime_env={"env_vars": {"RAY_HIXL_CONNECT_TIMEOUT_S": "0.5"}})
    begin = time.monotonic()
    assert "ConnectError" in named(ray_hixl.check(actor, timeout=180.0), "connection").found
    assert time.monotonic() - begin < 90.0, "half of check's time"


def test_what_is_known_when_time_is_up_is_told(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "answer", lambda *_: {**answers.answer(*_), "path": None})
    findings = ray_hixl.check(consumer, timeout=1.0)
    assert (named(findings, "registered").verdict, named(findings, "connection").verdict) == (WORKS, MISSING)
    assert "not yet whether it reaches" in named(findings, "connection").found


def is_connecting(*_: Any) -> bool:
    return any(thread.name.startswith("hixl-check") for thread in threading.enumerate())


_PATIENT = {"runtime_env": {"env_vars": {"RAY_HIXL_CONNECT_TIMEOUT_S": "300"}}}


@pytest.mark.parametrize("kind", ["receives", "runs an event loop"])
def test_the_actor_goes_on_while_it_connects(cluster: Any, source: Any, asker: subprocess.Popen[str], kind: str) -> None:
    actor = actors.Peer.options(**_PATIENT).remote() if kind == "receives" else ray.remote(**_PATIENT)(AsyncAnswering).remote()
    with ThreadPoolExecutor(1) as thread:
        checking = thread.submit(ray_hixl.check, actor, 600.0)
        try:
            actors.eventually(lambda: ray.get(actor.__ray_call__.remote(is_connecting)), 60.0)
            if kind == "receives":
                assert ray.get(actor.call.remote(len, source.give.remote(actors.numbers, 10, 1))) == 10
            assert ray.get(actor.__ray_call__.remote(is_connecting))
            assert not checking.done()
        finally:
            asker.kill()
    assert named(checking.result(), "connection").verdict == MISSING
    ray.kill(actor)


def test_a_question_that_nobody_waits_for_is_taken_back(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an actor that was busy would start an engine later. Ray's word may come too late for one question, not for all."""
    taken_back: list[Any] = []
    monkeypatch.setattr(ray, "cancel", lambda asked, real=ray.cancel: (taken_back.append(asked), real(asked)))
    plain = ray.remote(num_cpus=0)(Answering).remote()

    def wait_for(end: Path) -> None:
        while not end.exists():
            time.sleep(0.01)

    def is_taken_back() -> bool:
        end = tmp_path / str(len(taken_back))
        busy = plain.__ray_call__.remote(lambda _: wait_for(end))
        ray_hixl.check(plain, timeout=0.5)
        end.touch()
        ray.get(busy)
        try:
            ray.get(taken_back[-1])
        except ray.exceptions.TaskCancelledError:
            return True
        return False

    actors.eventually(is_taken_back, 60.0)
    ray.kill(plain)


def test_questions_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_connect", lambda *_: {})
    for question in range(3 * answers._KEPT):
        answers.answer(None, str(question), b"", 1.0)
    assert list(answers._connecting) == [str(question) for question in range(2 * answers._KEPT, 3 * answers._KEPT)]


def test_another_version_and_another_class() -> None:
    told = {
        "versions": versions() | {"ray-hixl": "0.0.1"},
        "ours": False,
        "holder": "other.Hixl",
        "bare": "",
    }
    findings = list(checks._compare(told))
    assert (named(findings, "ray-hixl").verdict, named(findings, "registered").verdict) == (WARNING, MISSING)
    assert "other.Hixl" in named(findings, "registered").found
    assert named(list(checks._compare(told | {"holder": None})), "registered").verdict == WARNING


def test_no_actor() -> None:
    with pytest.raises(TypeError, match="handle of an actor"):
        ray_hixl.check(None)


def test_findings_as_text(consumer: Any) -> None:
    assert str(named(ray_hixl.check(consumer), "registered")) == "works: registered: the transport is known there"
    assert compat.registered_class("HIXL") is ray_hixl.HiXLTensorTransport


_OF_A_CLUSTER = """
import json, sys, ray, actors
from click.testing import CliRunner
from ray_hixl.cli.__main__ import main

class Unrelated:
    def loaded(self):
        import sys
        return [name for name in ("ray_hixl", "torch") if name in sys.modules]

ray.init(sys.argv[1], namespace="checked", log_to_driver=False, configure_logging=False)
made = [actors.Peer.options(name="receiver", num_cpus=0).remote(), actors.Peer.options(num_cpus=0).remote()]
unrelated = ray.remote(num_cpus=0)(Unrelated).options(name="unrelated").remote()
ray.get([one.call.remote(len, "x") for one in made])
ended = {"name": "ended", "namespace": "checked"}  # since it was listed
ray.util.list_named_actors = lambda real=ray.util.list_named_actors, **options: [*real(**options), ended]

def check(*options):
    done = CliRunner().invoke(main, ["check", "--address", sys.argv[1], "--timeout", "30", *options])
    return {"exit": done.exit_code, "output": done.output}

print(json.dumps([check("--json"), check(), ray.get(unrelated.loaded.remote()), check("--json", "--all")]))
"""


def test_all_actors_of_a_cluster(cluster: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OF_A_CLUSTER, cluster.address_info["address"]], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    usual, shown, loaded, everyone = json.loads(done.stdout)
    report = json.loads(usual["output"])
    findings = {finding["name"]: finding for finding in report["actors"]["checked/receiver"]}
    assert findings["registered"]["verdict"] == WORKS, done.stderr
    assert "cma" in findings["host memory"]["found"]
    assert report["unnamed"] >= 1
    (ended,) = report["actors"]["checked/ended"]
    assert (ended["verdict"], ended["found"]) == (WARNING, "it has ended meanwhile")
    assert (report["others"], usual["exit"], loaded) == (["checked/unrelated"], 0, []), "who does not use hixl is left alone"
    assert "checked/unrelated" in json.loads(everyone["output"])["actors"]
    assert everyone["exit"] == 1, "it has no thread that receives"
    lines = shown["output"].splitlines()
    assert "Not asked, since hixl is not in use there: checked/unrelated." in " ".join(lines)
    assert "ray_hixl.check(actor)" in " ".join(lines[-3:])


def test_actors_of_which_nothing_is_known(cluster: Any, tmp_path: Path) -> None:
    """They may have nothing to do with hixl, so that they are no error."""
    plain = ray.remote(num_cpus=0)(Answering).remote()
    end = tmp_path / "end"

    def wait_for_the_end(_: Any) -> None:
        while not end.exists():
            time.sleep(0.01)

    def fail(_: Any) -> None:
        raise KeyError("secret")

    look = plain.__ray_call__.remote(fail)
    ray.wait([look])
    (failed,) = command._check(plain, look, 5.0) or []
    busy = plain.__ray_call__.remote(wait_for_the_end)
    (silent,) = command._check(plain, plain.__ray_call__.remote(len), 5.0) or []
    end.touch()
    ray.get(busy)
    ray.kill(plain)
    actors.eventually(lambda: "ended" in (command._check(plain, plain.__ray_call__.remote(len), 5.0) or [])[0].found)
    assert (failed.verdict, silent.verdict) == (WARNING, WARNING)
    assert "failed there: " in failed.found
    assert "no answer within 5 s" in silent.found
