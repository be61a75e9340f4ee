"""How a process gets the transport: register() and the hook of the job."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
import ray

import ray_hixl
from ray_hixl.ray import answers, compat
from ray_hixl.ray.errors import to_ray
from ray_hixl.ray.metadata import ObjectMetadata, TransferMetadata

_HOOK = "worker_process_setup_hook"


def test_register_is_idempotent(cluster: Any) -> None:
    ray_hixl.register()
    ray_hixl.register(devices=["cpu"])
    assert compat.registered_class("HIXL") is ray_hixl.HiXLTensorTransport


def test_register_with_other_options_is_refused(source: Any) -> None:
    def register_others() -> str:
        ray_hixl.empty(1)  # starts the engine
        ray_hixl.register(options=ray_hixl.Options())  # its own options again are fine
        try:
            ray_hixl.register(options=ray_hixl.Options(copy_threads=7))
        except ray_hixl.InvalidArgument as error:
            return str(error)
        return "accepted"

    assert "already uses other options" in ray.get(source.call.remote(register_others))


def test_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="cuda"):
        ray_hixl.register(devices=["cuda"])


def test_runtime_env_merges() -> None:
    base = {"env_vars": {"MINE": "1", "RAY_HIXL_COPY_THREADS": "9"}, "working_dir": "somewhere"}
    made = ray_hixl.runtime_env(options=ray_hixl.Options(copy_threads=2), base=base)
    assert made["env_vars"] == {"MINE": "1", "RAY_HIXL_COPY_THREADS": "2"}
    assert made["working_dir"] == "somewhere"
    assert made[_HOOK] == "ray_hixl.register"
    assert base["env_vars"]["RAY_HIXL_COPY_THREADS"] == "9", "what was passed in is left alone"


def test_runtime_env_leaves_each_node_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_HIXL_HOST", "192.0.2.1")
    assert "env_vars" not in ray_hixl.runtime_env(options=ray_hixl.Options())
    assert ray_hixl.runtime_env(options=ray_hixl.Options(host="192.0.2.1"))["env_vars"] == {"RAY_HIXL_HOST": "192.0.2.1"}


def test_runtime_env_refuses_another_hook() -> None:
    with pytest.raises(ValueError, match=r"my\.hook"):
        ray_hixl.runtime_env(base={_HOOK: "my.hook"})
    assert ray_hixl.runtime_env(base=ray_hixl.runtime_env())[_HOOK] == ray_hixl.runtime_env()[_HOOK]


def test_runtime_env_of_an_actor() -> None:
    made = ray_hixl.runtime_env(options=ray_hixl.Options(copy_threads=2), base={"env_vars": {"MINE": "1"}}, actor=True)
    assert made == {"env_vars": {"MINE": "1", "RAY_HIXL_COPY_THREADS": "2", compat.HOOK_VARIABLE: "ray_hixl.register"}}


_NAME_TAKEN = """
import ray_hixl
from ray_hixl.ray import compat

class Other(ray_hixl.HiXLTensorTransport):
    pass

compat.register_transport("HIXL", ["cpu"], Other)
try:
    ray_hixl.register()
except RuntimeError as error:
    print(error)
"""

_JOB_HOOK = """
import os, sys, ray, torch, ray_hixl

@ray.remote(enable_tensor_transport=True)
class Maker:
    def environment(self):
        return ray_hixl.Options().copy_threads, os.environ["MINE"]
    def put(self):
        return [ray.put(torch.arange(10), _tensor_transport="hixl")]

@ray.remote
def total(references):
    return ray.get(references[0]).sum().item()

ray.init(sys.argv[1], log_to_driver=False, configure_logging=False,
         runtime_env=ray_hixl.runtime_env(ray_hixl.Options(copy_threads=3), base={"env_vars": {"MINE": "kept"}}))
ray_hixl.register()
maker = Maker.remote()
print(*ray.get(maker.environment.remote()))
references = ray.get(maker.put.remote())
print(ray.get(references[0]).sum().item())
print(ray.get(total.remote(references)))  # a plain task imports nothing of ours by itself
"""


def _run(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_name_that_is_taken_is_told() -> None:
    told = _run(_NAME_TAKEN)
    assert "Other" in told
    assert "ray_hixl.HiXLTensorTransport" in told


def test_the_hook_of_the_job_registers_in_every_worker(cluster: Any) -> None:
    assert _run(_JOB_HOOK, cluster.address_info["address"]).split() == ["3", "kept", "45", "45"]


_BY_VALUE = """
import os, sys, ray, torch, ray_hixl
from waiting import eventually

ray_hixl.register()
ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)

@ray.remote(enable_tensor_transport=True, num_cpus=0, max_restarts=1)
class Peer:  # of this script: Ray ships the class itself, and nothing in it imports ray_hixl
    @ray.method(tensor_transport="hixl")
    def make(self):
        return torch.arange(10)
    def total(self, tensor):
        return tensor.sum().item()
    def pid(self):
        return os.getpid()

@ray.remote
def total(references):
    return ray.get(references[0]).sum().item()

def restart(actor):
    before = ray.get(actor.pid.remote())
    ray.kill(actor, no_restart=False)
    def is_back():
        try:
            return ray.get(actor.pid.remote(), timeout=20) != before
        except ray.exceptions.RayActorError:
            return False
    eventually(is_back, 60)

source, consumer = Peer.options(runtime_env=ray_hixl.runtime_env(actor=True)).remote(), Peer.remote()
print(ray.get(consumer.total.remote(source.make.remote())))
restart(consumer)
print(ray.get(consumer.total.remote(source.make.remote())))
restart(source)
reference = source.make.remote()
print(ray.get(consumer.total.remote(reference)))
print(ray.get(total.remote([reference])))
"""


def test_classes_that_are_shipped_by_value(cluster: Any) -> None:
    """An actor that was restarted and a plain task receive without any hook; a source that is restarted has the hook of its own."""
    assert _run(_BY_VALUE, cluster.address_info["address"]).split() == ["45"] * 4


def test_what_is_pickled_is_found_in_the_package() -> None:
    """One thread that imports the package and another that imports a module of it may be called a deadlock by Python."""
    error = to_ray(ray_hixl.PeerGone("gone"))
    for one in (ray_hixl.HiXLTensorTransport, ObjectMetadata([], None), TransferMetadata(), answers.answer, error):
        pickled = pickle.dumps(one)
        assert b"ray_hixl.ray" in pickled
        assert b"ray_hixl.ray." not in pickled, one
        assert type(pickle.loads(pickled)) is type(one)


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that has not registered the transport yet; afterwards it is as before."""
    monkeypatch.delitem(compat._util.transport_manager_info, "HIXL", raising=False)


def test_another_thread_registers_first(unregistered: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Ray's own, for example, between the look at who holds the name and the registration."""
    real = compat.register_transport

    def come_late(*arguments: Any) -> None:
        real(*arguments)
        real(*arguments)

    monkeypatch.setattr(compat, "register_transport", come_late)
    ray_hixl.register()
    assert compat.registered_class("HIXL") is ray_hixl.HiXLTensorTransport
    del compat._util.transport_manager_info["HIXL"]
    pickle.loads(pickle.dumps(ObjectMetadata([], None)))
    assert (compat.registered_class("HIXL"), caplog.records) == (ray_hixl.HiXLTensorTransport, [])


def test_what_ray_refuses_is_raised(unregistered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise ValueError("no such device")

    monkeypatch.setattr(compat, "register_transport", refuse)
    with pytest.raises(ValueError, match="no such device"):
        ray_hixl.register()


def test_a_name_that_is_taken_is_warned_of_once(unregistered: None, caplog: pytest.LogCaptureFixture) -> None:
    class Foreign(ray_hixl.HiXLTensorTransport):
        pass

    compat.register_transport("HIXL", ["cpu"], Foreign)
    for _ in range(3):
        pickle.loads(pickle.dumps(ObjectMetadata([], None)))
    (warning,) = caplog.messages
    assert "Foreign" in warning


_ARRIVES_WHERE_THE_NAME_IS_TAKEN = """
import pickle, sys
import ray_hixl
from ray_hixl.ray import compat
from ray_hixl.ray.metadata import ObjectMetadata

class Other(ray_hixl.HiXLTensorTransport):
    pass

compat.register_transport("HIXL", ["cpu"], Other)
arrived = pickle.loads(pickle.dumps(ObjectMetadata([], None, packed=b"x")))
print(arrived.packed, compat.registered_class("HIXL").__name__)
"""


def test_an_object_that_arrives_where_the_name_is_taken() -> None:
    """On a thread of Ray's own an error would end the process."""
    assert _run(_ARRIVES_WHERE_THE_NAME_IS_TAKEN).split() == ["b'x'", "Other"]
