"""``ray_hixl.check``: why an actor would not receive, told in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
import ray

import actors
import ray_hixl
from ray_hixl.findings import MISSING, REFUSED, WARNING, WORKS, Finding
from ray_hixl.ray import checks, compat
from ray_hixl.versions import versions


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
    monkeypatch.setattr(checks.process, "options", lambda: ray_hixl.Options(ray_wait_for_source=False))
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


def test_not_reached(fresh: Any) -> None:
    """An engine that listens on another address than the one that is told."""
    actor = fresh(runtime_env={"env_vars": {"RAY_HIXL_CONNECT_TIMEOUT_S": "0.5"}})

    def listen_elsewhere() -> Any:
        own = ray_hixl.Engine(ray_hixl.Options(host="127.0.0.2"))
        descriptor = own.descriptor
        own.close()
        return descriptor

    gone = listen_elsewhere()
    told = ray.get(actor.call.remote(checks.answer, None, gone, 1.0))
    (found,) = checks._describe_path(told)
    assert (found.verdict, "Options.host" in found.remedy) == (MISSING, True)


def test_another_version_and_another_class() -> None:
    told = {
        "versions": versions() | {"ray-hixl": "0.0.1"},
        "ours": False,
        "holder": "other.Hixl",
        "bare": "",
        "apart": True,
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
import sys, ray, actors
ray.init(sys.argv[1], namespace="checked", log_to_driver=False, configure_logging=False)
made = [actors.Peer.options(name="receiver", num_cpus=0).remote(), actors.Peer.options(num_cpus=0).remote()]
ray.get([one.call.remote(len, "x") for one in made])
from click.testing import CliRunner
from ray_hixl.cli.__main__ import main
ended = CliRunner().invoke(main, ["check", "--address", sys.argv[1], "--json"])
print(ended.output if ended.exception is None or ended.exit_code == 0 else repr(ended.exception))
"""


def test_all_actors_of_a_cluster(cluster: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OF_A_CLUSTER, cluster.address_info["address"]], capture_output=True, text=True, timeout=120, check=False
    )
    report = json.loads(done.stdout)
    findings = {finding["name"]: finding for finding in report["actors"]["checked/receiver"]}
    assert findings["registered"]["verdict"] == WORKS, done.stderr
    assert "cma" in findings["host memory"]["found"]
    assert report["unnamed"] >= 1
