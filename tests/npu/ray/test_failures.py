"""What goes wrong with npu tensors: the producer lives on, and the consumer gets one clear error."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import values
from modes import once

import actors
import ray_hixl
from ray_hixl.ray.compat import RayDirectTransportError
from support import run_python
from yardstick import scaled


def failure(call: Callable[[], Any]) -> BaseException:
    """The error of ours that a call ends with: itself, or the cause that Ray names."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # the class is what is looked at
        call()
    error: BaseException = caught.value
    return getattr(error, "cause", None) or error


def check_refusal(source: Any, consumer: Any, make: Callable[[], Any], kind: type[Exception], said: str) -> None:
    """``make`` in the source gives what cannot be published: both ways of receiving say so, and the source lives on."""
    reference = source.give.remote(make)
    for error in (failure(lambda: ray.get(consumer.call.remote(len, reference))), failure(lambda: ray.get(reference))):
        assert isinstance(error, kind)
        assert isinstance(error, RayDirectTransportError)
        assert said in str(error)
        assert "its source could not publish it" in str(error)
    assert ray.get(consumer.call.remote(len, source.give.remote(values.on_npu, torch.int8, [9], 1))) == 9


def test_private_formats(source: Any, consumer: Any) -> None:
    def make() -> list[torch.Tensor]:
        import torch_npu

        torch.npu.config.allow_internal_format = True
        return [torch.ones(2, device="npu"), torch_npu.empty_with_format((64, 64), dtype=torch.float16, device="npu", acl_format=29)]

    check_refusal(source, consumer, make, ray_hixl.UnsupportedTensor, "tensor 1 is in the NPU's private format 29 (FRACTAL_NZ)")


def test_graph_capture(source: Any, consumer: Any) -> None:
    def make() -> torch.Tensor:
        import torch_npu

        original = torch_npu.npu.is_current_stream_capturing

        def once() -> bool:
            torch_npu.npu.is_current_stream_capturing = original
            return True

        torch_npu.npu.is_current_stream_capturing = once
        return torch.ones(3, device="npu")

    check_refusal(source, consumer, make, ray_hixl.NotAvailable, "while a graph is captured is not possible")


ONLY_NPUS = """
import sys, ray, torch, ray_hixl
ray_hixl.register(devices=["npu"])
ray.init(address=sys.argv[1], configure_logging=False, log_to_driver=False)

@ray.remote(enable_tensor_transport=True, resources={"NPU": 1}, num_cpus=0.1)
class Source:
    def __init__(self):
        ray_hixl.register(devices=["npu"])

    @ray.method(tensor_transport="hixl")
    def give(self, sound):
        return [torch.ones(3) if sound else torch.ones(3, 3).to_sparse(), torch.ones(3, device="npu")]

nowhere = {"env_vars": {"RAY_HIXL_HOST": "203.0.113.9"}}
for environment, sound in (nowhere, True), ({}, False):
    source = Source.options(runtime_env=environment).remote()
    try:
        ray.get(source.give.remote(sound))
    except ray_hixl.HixlError as error:
        print(error)
    ray.kill(source)
"""


@once
def test_the_reason_is_told_where_only_npus_are_registered(cluster: Any) -> None:
    """Ray compares the device of what could not be published, too: no engine, or tensors that cannot travel."""
    no_engine, refused = run_python(ONLY_NPUS, cluster.address_info["gcs_address"], timeout=100, says=".*").splitlines()
    assert "203.0.113.9" in no_engine
    assert "sparse" in refused


@once
def test_no_room(fresh: Callable[..., Any], consumer: Any) -> None:
    variables = {"RAY_HIXL_SLAB_BYTES": str(2 << 20), "RAY_HIXL_SLAB_CAP_BYTES": str(4 << 20)}
    actor = fresh(runtime_env={"env_vars": variables})
    make = lambda: torch.ones(5 << 20, dtype=torch.uint8, device="npu")  # noqa: E731
    check_refusal(actor, consumer, make, ray_hixl.OutOfMemory, "raise slab_cap_bytes")
    error = failure(lambda: ray.get(actor.call.remote(len, consumer.give.remote(make))))
    assert isinstance(error, ray_hixl.OutOfMemory | MemoryError)
    assert ray.get(actor.call.remote(len, consumer.give.remote(values.on_npu, torch.int8, [9], 1))) == 9


@once
def test_dead_source_and_its_next_life(fresh: Callable[..., Any], consumer: Any) -> None:
    actor = fresh(max_restarts=1)
    pid = ray.get(actor.call.remote(os.getpid))
    references = [actor.give.remote(values.on_npu, torch.float32, [1000], seed) for seed in (1, 2)]
    assert ray.get(consumer.call.remote(len, references[0])) == 1000
    assert len(ray.get(references[1])) == 1000
    actors.kill(pid)
    actors.eventually(lambda: not Path(f"/proc/{pid}").exists())  # until its last thread has ended, HIXL still reads its memory
    for receive in (lambda: ray.get(consumer.call.remote(len, references[0])), lambda: ray.get(references[1])):
        start = time.monotonic()
        error = failure(receive)
        assert time.monotonic() - start < scaled(10)
        assert isinstance(error, ray_hixl.PeerGone | ray_hixl.ConnectError)
        assert isinstance(error, RayDirectTransportError)

    def is_back() -> bool:
        try:
            return ray.get(actor.call.remote(actors.left), timeout=10) is not None  # imports the module that registers
        except ray.exceptions.RayError:
            return False

    actors.eventually(is_back, 60.0)
    reference = actor.give.remote(values.on_npu, torch.float32, [1000], 3)
    assert ray.get(consumer.call.remote(values.bits, reference)) == values.bits(values.numbers(torch.float32, [1000], 3))


def test_free_gives_the_slabs_back(source: Any, consumer: Any) -> None:
    """What was published, and what was received."""
    used = lambda: sum(each["slabs"]["used_bytes"] for each in ray_hixl.stats()["devices"])  # noqa: E731
    reference = source.give.remote(values.on_npu, torch.uint8, [3 << 20], 1)
    assert ray.get(consumer.call.remote(len, reference)) == 3 << 20
    assert ray.get(source.call.remote(used)) == 3 << 20
    del reference
    for actor in (source, consumer):
        actors.eventually(lambda actor=actor: ray.get(actor.call.remote(used)) == 0)


DRIVER = """
import sys, ray, torch
ray.init(address=sys.argv[1], configure_logging=False, log_to_driver=False)
import actors, values, ray_hixl
assert not hasattr(torch, "npu") and "torch_npu" not in sys.modules
source, consumer = (actors.Peer.options(resources={"NPU": 1}, num_cpus=0.1).remote() for _ in range(2))
reference = source.give.remote(values.on_npu, torch.float32, [100], 3)
print(ray.get(consumer.call.remote(values.bits, reference)) == values.bits(values.numbers(torch.float32, [100], 3)))
try:
    ray.get(reference)
except ray_hixl.NotAvailable as error:
    print(str(error))
ray.experimental.set_target_device_for_ref(reference, "cpu")
arrived = ray.get(reference)
print(arrived.device, values.bits(arrived) == values.bits(values.numbers(torch.float32, [100], 3)))
without = {"LD_LIBRARY_PATH": "", "ASCEND_HOME_PATH": "", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "RAY_HIXL_LANDING_DEVICE": "cpu"}
other = actors.Peer.options(runtime_env={"env_vars": without}, num_cpus=0.1).remote()
print(ray.get(other.call.remote(lambda tensor: (str(tensor.device), values.bits(tensor)), reference)) == ("cpu", values.bits(arrived)))
print(ray.get(source.give.remote(torch.arange, 5)).tolist())
"""


@once
def test_a_driver_and_an_actor_without_torch_npu(cluster: Any, npus: dict[str, Any]) -> None:
    """References go through; the tensors come to the CPU, by one line, or by an option for all of a process's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LD_LIBRARY", "ASCEND", "FAKE_", "RAY_HIXL"))}
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, cluster.address_info["gcs_address"]],
        env=environment | {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    arrived, refused, by_one_line, by_an_option, values_of_the_cpu = ended.stdout.splitlines()[-5:]
    assert arrived == "True"
    assert "npu tensors need torch_npu, which cannot be imported here" in refused
    assert "device='cpu'" in refused
    assert (by_one_line, by_an_option) == ("cpu True", "True")
    assert values_of_the_cpu == "[0, 1, 2, 3, 4]"
