"""What goes wrong on the way: refused tensors, dead sources, late receives. The consumer gets one clear error and goes on."""

from __future__ import annotations

import os
import pickle
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

import actors
import ray_hixl
from ray_hixl import process
from ray_hixl.ray import reporter
from ray_hixl.ray.compat import RayDirectTransportError
from ray_hixl.ray.metadata import ObjectMetadata, TransferMetadata
from ray_hixl.ray.transport import HiXLTensorTransport
from versions import death_of_a_maker, tensors_by_identity, tries_of_their_own
from yardstick import scaled

REFUSED: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.ones(3, 3).to_sparse(),
    "meta": lambda: torch.empty(3, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
}


def failure(call: Callable[[], Any]) -> BaseException:
    """The error of ours that a call ends with: itself, or the cause that Ray names."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # the class is what is looked at
        call()
    error: BaseException = caught.value
    return getattr(error, "cause", None) or error


@pytest.mark.parametrize("kind", [kind if kind == "quantized" else pytest.param(kind, marks=tensors_by_identity) for kind in REFUSED])
def test_refused_tensor_fails_where_it_is_fetched(source: Any, consumer: Any, kind: str) -> None:
    reference = source.give.remote(REFUSED[kind])
    for error in (failure(lambda: ray.get(consumer.call.remote(type, reference))), failure(lambda: ray.get(reference))):
        assert isinstance(error, ray_hixl.UnsupportedTensor)
        assert isinstance(error, RayDirectTransportError)
        assert error.code == "unsupported_tensor"
        assert kind in str(error)
        assert str(error).startswith(f"ObjectRef({reference.hex()}): ")
    assert torch.equal(ray.get(source.give.remote(torch.arange, 5)), torch.arange(5)), "the source lives on"


@pytest.mark.parametrize("packed", ["of an engine", b"malformed"])
def test_a_fetch_that_fails_is_one_line_of_the_log(source: Any, caplog: pytest.LogCaptureFixture, packed: Any) -> None:
    """With object, peer, code, seconds, bytes and transport."""
    if packed == "of an engine":
        reference = source.give.remote(REFUSED["quantized"])
        failure(lambda: ray.get(reference))
        name, code = reference.hex(), "unsupported_tensor"
        peer = f"engine of process {ray.get(source.call.remote(os.getpid))} at "
    else:
        failure(lambda: HiXLTensorTransport().recv_multiple_tensors("name", ObjectMetadata([], "cpu", packed=packed), TransferMetadata()))
        name, code, peer = "name", "invalid_argument", "unknown engine"
    (line,) = [record for record in caplog.records if record.name.startswith("ray_hixl")]
    assert line.levelname == "WARNING"
    assert re.match(rf"object {name} did not come from the {peer}.*: {code} after [\d.]+ s, 0 bytes by none: ", line.getMessage())


def refuse_an_engine() -> None:
    raise ray_hixl.ConnectError("no address")


@pytest.mark.parametrize("code", ["unsupported_tensor", "connect_error"])
def test_a_publish_that_fails_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """And one record that is no success, whether the engine refused a tensor or there is none. A publish that succeeds is neither."""
    reported: list[Any] = []
    monkeypatch.setattr(reporter, "report", reported.append)
    transport = HiXLTensorTransport()
    transport.extract_tensor_transport_metadata("published", [torch.ones(3)])
    transport.garbage_collect("published", None)
    if code == "connect_error":
        monkeypatch.setattr(process, "engine", refuse_an_engine)
    transport.extract_tensor_transport_metadata("refused", [REFUSED["quantized"]()])
    assert [(record.object_id, record.code) for record in reported] == [("published", ""), ("refused", code)]
    (line,) = [record for record in caplog.records if record.name.startswith("ray_hixl")]
    assert line.levelname == "WARNING"
    assert re.match(rf"object refused was not published: {code} after [\d.]+ s: .*(is quantized|no address)", line.getMessage())


def test_one_refused_tensor_refuses_its_object_and_no_other(source: Any, consumer: Any) -> None:
    """By ``ray.put``, in the middle of an object, beside good objects in one ``ray.get``."""

    def make() -> list[Any]:
        quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        return [torch.ones(2), [torch.ones(3), quantized, torch.zeros(4)], torch.zeros(5)]

    good, bad, other = references = ray.get(source.call.remote(actors.put_all, make))
    for error in (failure(lambda: ray.get(references)), failure(lambda: ray.get(consumer.call.remote(actors.get, references)))):
        assert isinstance(error, ray_hixl.UnsupportedTensor)
        assert "tensor 1 is no plain dense memory: it is quantized" in str(error)
    assert torch.equal(ray.get(good), torch.ones(2))
    assert torch.equal(ray.get(other), torch.zeros(5))
    assert isinstance(failure(lambda: ray.get(bad)), ray_hixl.UnsupportedTensor), "the same error each time"


def test_error_survives_pickling(source: Any) -> None:
    error = failure(lambda: ray.get(source.give.remote(REFUSED["quantized"])))
    assert isinstance(error, ray_hixl.UnsupportedTensor)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.code) == (str(error), error.code)
    assert again.code == "unsupported_tensor"


def test_dead_source_ends_a_fetch_and_the_consumer_goes_on(fresh: Callable[..., Any], source: Any, consumer: Any) -> None:
    doomed = fresh(max_restarts=0)
    pid = ray.get(doomed.call.remote(os.getpid))
    reference = doomed.give.remote(actors.numbers, 1000, 1)
    assert ray.get(consumer.call.remote(len, reference)) == 1000
    actors.kill(pid)
    start = time.monotonic()
    error = failure(lambda: ray.get(consumer.call.remote(len, reference)))
    assert time.monotonic() - start < scaled(8)
    assert isinstance(error, ray_hixl.PeerGone)
    assert isinstance(error, RayDirectTransportError)
    assert torch.equal(ray.get(consumer.call.remote(lambda x: x, source.give.remote(torch.arange, 9))), torch.arange(9))


@death_of_a_maker
def test_source_that_dies_before_the_object_is_made(fresh: Callable[..., Any], source: Any, consumer: Any) -> None:
    doomed = fresh(max_restarts=0, max_concurrency=2)
    pid = ray.get(doomed.call.remote(os.getpid))
    handed = consumer.call.remote(len, doomed.give.remote(lambda: actors.kept.update(begun=True) or threading.Event().wait()))
    actors.eventually(lambda: ray.get(doomed.call.remote(lambda: "begun" in actors.kept)))
    actors.kill(pid)
    assert isinstance(failure(lambda: ray.get(handed)), ray.exceptions.ActorDiedError)
    assert torch.equal(ray.get(consumer.call.remote(lambda x: x, source.give.remote(torch.arange, 9))), torch.arange(9))


def test_source_that_raises(source: Any, consumer: Any) -> None:
    """Its own error reaches whoever wants the value: the consumer's caller, itself, the driver."""

    def fail() -> torch.Tensor:
        raise ZeroDivisionError("of the source")

    for handed in (consumer.call.remote(len, source.give.remote(fail)), source.call.remote(len, source.give.remote(fail))):
        assert isinstance(failure(lambda handed=handed: ray.get(handed)), ZeroDivisionError)
    assert isinstance(failure(lambda: ray.get(source.give.remote(fail))), ZeroDivisionError)
    assert torch.equal(ray.get(consumer.call.remote(lambda x: x, source.give.remote(torch.arange, 9))), torch.arange(9))


def at_the_third_try() -> torch.Tensor:
    actors.kept["tries"] = actors.kept.get("tries", 0) + 1
    if actors.kept["tries"] < 3:
        raise ValueError(f"try {actors.kept['tries']}")
    return actors.numbers(3000, actors.kept.pop("tries"))


@tries_of_their_own
def test_a_task_that_is_tried_again(source: Any, consumer: Any) -> None:
    retried = source.give.options(max_task_retries=2, retry_exceptions=True)
    assert torch.equal(ray.get(consumer.call.remote(lambda x: x, retried.remote(at_the_third_try))), actors.numbers(3000, 3))
    assert torch.equal(ray.get(retried.remote(at_the_third_try)), actors.numbers(3000, 3))
    once = source.give.options(max_task_retries=1, retry_exceptions=True)
    assert str(failure(lambda: ray.get(once.remote(at_the_third_try)))).endswith("try 2")
    ray.get(source.call.remote(actors.kept.clear))


def test_a_task_whose_process_dies_is_run_again(fresh: Callable[..., Any], consumer: Any, tmp_path: Path) -> None:
    """After its tensors were published, and before Ray had the result: the object is that of the second run."""
    mark = tmp_path / "published"
    actor = fresh(max_restarts=1, max_task_retries=1)

    def die_once() -> torch.Tensor:
        if mark.exists():
            return actors.numbers(3000, 2)
        publish = HiXLTensorTransport.extract_tensor_transport_metadata

        def publish_and_die(*arguments: Any) -> Any:
            publish(*arguments)
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        HiXLTensorTransport.extract_tensor_transport_metadata = publish_and_die
        return actors.numbers(3000, 1)

    reference = actor.give.remote(die_once)
    assert torch.equal(ray.get(consumer.call.remote(lambda x: x, reference)), actors.numbers(3000, 2))
    assert mark.exists()


def test_an_object_that_was_freed_under_its_borrower(source: Any, consumer: Any) -> None:
    """By Ray's call, as when it frees what somebody still has a reference to."""

    def free(object_id: str) -> None:
        from ray_hixl.ray.compat import _util  # Ray's singletons

        _util.get_tensor_transport_manager("HIXL").garbage_collect(object_id, None)

    (reference,) = references = ray.get(source.call.remote(actors.put_all, lambda: [actors.numbers(3000, 1)]))
    assert len(ray.get(consumer.call.remote(lambda refs: ray.get(refs[0]), references))) == 3000
    ray.get(source.call.remote(free, reference.hex()))
    for error in (failure(lambda: ray.get(consumer.call.remote(actors.get, references))), failure(lambda: ray.get(reference))):
        assert isinstance(error, ray_hixl.ObjectFreed)


def test_source_that_dies_under_a_get_in_the_driver(fresh: Callable[..., Any]) -> None:
    doomed = fresh(max_restarts=0)
    pid = ray.get(doomed.call.remote(os.getpid))
    reference = doomed.give.remote(actors.numbers, 1000, 1)
    assert len(ray.get(reference)) == 1000
    actors.kill(pid)
    start = time.monotonic()
    error = failure(lambda: ray.get(reference))
    assert time.monotonic() - start < scaled(8)
    assert isinstance(error, ray_hixl.PeerGone)
    assert isinstance(error, RayDirectTransportError)


def test_restarted_actor_hands_out_again(fresh: Callable[..., Any], consumer: Any) -> None:
    actor = fresh(max_restarts=1)
    pid = ray.get(actor.call.remote(os.getpid))
    assert ray.get(consumer.call.remote(len, actor.give.remote(actors.numbers, 100, 1))) == 100
    actors.kill(pid)

    def is_back() -> bool:
        try:
            return bool(ray.get(actor.call.remote(os.getpid), timeout=5) != pid)
        except ray.exceptions.RayError:
            return False

    actors.eventually(is_back, 30.0)
    arrived = ray.get(consumer.call.remote(lambda tensor: tensor, actor.give.remote(actors.numbers, 100, 2)))
    assert torch.equal(arrived, actors.numbers(100, 2))


def hold_receives(transport: Any, seconds: float) -> None:
    """Makes this process's next receive sleep before it starts, as a busy one would."""
    original = transport.recv_multiple_tensors

    def slow(*arguments: Any) -> Any:
        transport.recv_multiple_tensors = original
        time.sleep(seconds)
        return original(*arguments)

    transport.recv_multiple_tensors = slow


def slow_next_receive(seconds: float) -> None:
    from ray_hixl.ray.compat import _util  # Ray's singletons

    hold_receives(_util.get_tensor_transport_manager("HIXL"), seconds)


def test_right_bytes_after_a_timeout_behind_a_slow_receive(source: Any, fresh: Callable[..., Any]) -> None:
    """Ray hands what a late receive ended with to the next transfer of the object: that must be the bytes, not the error."""
    receiver = fresh()
    reference = source.give.remote(actors.numbers, 5000, 3)
    assert ray.get(receiver.call.remote(len, reference)) == 5000
    ray.get(receiver.call.remote(slow_next_receive, 11.0))
    with pytest.raises(Exception, match="after 10"):
        ray.get(receiver.call.remote(len, reference))
    arrived = ray.get(receiver.call.remote(lambda tensor: tensor, reference))
    assert torch.equal(arrived, actors.numbers(5000, 3))
