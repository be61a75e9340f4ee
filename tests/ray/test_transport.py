"""The class that Ray calls, called as Ray calls it: aborts, and what must not cost a round trip."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "python"))

import ray_hixl
from interrupts import at_every_point
from ray_hixl import process
from ray_hixl._core import Published
from ray_hixl.ray import requests
from ray_hixl.ray.metadata import ObjectMetadata, TransferMetadata
from ray_hixl.ray.transport import HiXLTensorTransport
from ray_hixl.tensors import TensorMetaSequence
from support import Owner, eventually
from yardstick import scaled

CONSUMERS = ThreadPoolExecutor(2)


@pytest.fixture(scope="module")
def owner() -> Iterator[Owner]:
    made = Owner(prepare="import torch")
    yield made
    made.close()


@pytest.fixture
def transport() -> HiXLTensorTransport:
    return HiXLTensorTransport()


def publish(owner: Owner) -> ObjectMetadata:
    """A new object of the other process: the numbers from 0 to 9. Nobody knows where its memory is before its owner was asked."""
    packed = owner.get("engine.publish([torch.arange(10)])")
    return ObjectMetadata(TensorMetaSequence(packed), torch.device("cpu"), packed=packed)


def receive(transport: HiXLTensorTransport, metadata: ObjectMetadata, transfer: TransferMetadata) -> Future[list[torch.Tensor]]:
    """``recv_multiple_tensors`` on another thread, as in an actor."""
    return CONSUMERS.submit(transport.recv_multiple_tensors, "object", metadata, transfer)


def in_flight() -> int:
    """Transfers of this process."""
    count: int = ray_hixl.stats().get("transfers_in_flight", 0)
    return count


def arrives(transport: HiXLTensorTransport, metadata: ObjectMetadata, transfer: TransferMetadata) -> bool:
    (tensor,) = receive(transport, metadata, transfer).result(timeout=10)
    return torch.equal(tensor, torch.arange(10))


def test_an_abort_ends_the_transfer_that_it_names(owner: Owner, transport: HiXLTensorTransport) -> None:
    assert arrives(transport, publish(owner), TransferMetadata())
    metadata = publish(owner)
    aborted, other = TransferMetadata(), TransferMetadata()
    with owner.stopped():
        ends, goes_on = receive(transport, metadata, aborted), receive(transport, metadata, other)
        eventually(lambda: in_flight() == 2)
        begin = time.monotonic()
        transport.abort_transport("object", aborted)
        with pytest.raises(ray_hixl.Cancelled):
            ends.result(timeout=5)
        assert time.monotonic() - begin < scaled(1)
        assert not goes_on.done()
    assert torch.equal(goes_on.result(timeout=10)[0], torch.arange(10))
    eventually(lambda: in_flight() == 0)


def test_an_abort_sets_the_receiving_thread_free(owner: Owner, transport: HiXLTensorTransport) -> None:
    """Within 100 ms. Of some rounds the best one counts, since this process may be the one that waits for a core."""
    assert arrives(transport, publish(owner), TransferMetadata())

    def round_s() -> float:
        metadata, transfer = publish(owner), TransferMetadata()
        with owner.stopped():
            ends = receive(transport, metadata, transfer)
            eventually(lambda: in_flight() == 1)
            begin = time.monotonic()
            transport.abort_transport("object", transfer)
            with pytest.raises(ray_hixl.Cancelled):
                ends.result(timeout=5)
            took = time.monotonic() - begin
        assert arrives(transport, metadata, TransferMetadata()), "the same object, sent again"
        return took

    assert min(round_s() for _ in range(8)) < 0.1


def test_aborts_of_what_never_comes_are_forgotten(transport: HiXLTensorTransport) -> None:
    """The oldest first. A transfer that is aborted before it begins is remembered by its name alone."""
    transfers = [TransferMetadata() for _ in range(5000)]
    for transfer in transfers:
        transport.abort_transport("object", transfer)
    assert len(transport._aborted) == 1024
    assert not transport._take_abort(transfers[-1025].transfer_id)
    assert transport._take_abort(transfers[-1024].transfer_id)
    assert transport._take_abort(transfers[-1].transfer_id)
    assert not transport._take_abort(transfers[-1].transfer_id), "it counts once"


def test_an_abort_may_come_while_its_transfer_is_started(
    owner: Owner, transport: HiXLTensorTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is fetching already, and the transport does not know of it yet."""
    assert arrives(transport, publish(owner), TransferMetadata())
    metadata, aborted = publish(owner), TransferMetadata()
    engine = process.engine()
    start = engine.fetch_within

    def fetch(*arguments: object, **options: object) -> object:
        started = start(*arguments, **options)  # type: ignore[arg-type]
        transport.abort_transport("object", aborted)
        return started

    with owner.stopped():
        monkeypatch.setattr(engine, "fetch_within", fetch)
        with pytest.raises(ray_hixl.Cancelled):
            receive(transport, metadata, aborted).result(timeout=5)


def test_a_get_that_is_interrupted_anywhere_has_ended(owner: Owner, transport: HiXLTensorTransport) -> None:
    """Wherever the interrupt comes, also in the middle of what ends a get that failed already."""
    assert arrives(transport, publish(owner), TransferMetadata())
    metadata = [publish(owner), publish(owner)]
    targets = [torch.zeros(10, dtype=torch.int64) for _ in metadata]

    def get() -> None:
        with pytest.raises(TimeoutError, match="did not arrive"), requests.one_get():  # noqa: PT012
            begun = [
                transport.fetch_multiple_tensors("object", each, TransferMetadata(), [target])
                for each, target in zip(metadata, targets, strict=True)
            ]
            transport.wait_fetch_complete(begun.pop(), timeout=0)

    with owner.stopped():
        for error in at_every_point(get):
            assert isinstance(error, KeyboardInterrupt)
            assert in_flight() == 0
    assert not any(target.any() for target in targets)


def test_a_request_that_is_dropped_is_cancelled(owner: Owner, transport: HiXLTensorTransport) -> None:
    assert arrives(transport, publish(owner), TransferMetadata())
    metadata = publish(owner)
    with owner.stopped():
        request = transport.fetch_multiple_tensors("object", metadata, TransferMetadata())
        assert in_flight() == 1
        del request
        eventually(lambda: in_flight() == 0)


def test_how_long_a_wait_is(owner: Owner, transport: HiXLTensorTransport) -> None:
    """0 looks once; less than 0, also where Ray says nothing, waits for the bytes or the fetch's own deadline."""
    assert arrives(transport, publish(owner), TransferMetadata())
    metadata = publish(owner)

    def fetch() -> requests.PendingFetch:
        return transport.fetch_multiple_tensors("object", metadata, TransferMetadata())

    with owner.stopped():
        with pytest.raises(TimeoutError, match="did not arrive within 0 s"):
            transport.wait_fetch_complete(fetch(), timeout=0)
        begun = [fetch(), fetch()]
        waits = [
            CONSUMERS.submit(transport.wait_fetch_complete, begun[0]),
            CONSUMERS.submit(transport.wait_fetch_complete, begun[1], timeout=-1),
        ]
        assert not any(wait.done() for wait in waits)
    assert all(torch.equal(wait.result(timeout=10)[0], torch.arange(10)) for wait in waits)
    assert all(torch.equal(transport.wait_fetch_complete(request, timeout=0)[0], torch.arange(10)) for request in begun), "it is there"


def test_waiting_costs_the_same_for_any_number_of_requests(owner: Owner, transport: HiXLTensorTransport) -> None:
    """Of a get each request knows which it is: nobody looks through the others."""
    metadata = publish(owner)
    with requests.one_get() as get:
        request = transport.fetch_multiple_tensors("object", metadata, TransferMetadata())
        assert request.get is get
        assert requests.get_of(request).__enter__() is get
        assert torch.equal(transport.wait_fetch_complete(request)[0], torch.arange(10))


def test_an_abort_does_not_touch_later_transfers_of_the_object(owner: Owner, transport: HiXLTensorTransport) -> None:
    """It may come after the transfer that it names, which has ended by itself."""
    metadata, ended = publish(owner), TransferMetadata()
    assert arrives(transport, metadata, ended)
    transport.abort_transport("object", ended)
    assert arrives(transport, metadata, TransferMetadata())


def test_an_abort_may_come_before_its_transfer(owner: Owner, transport: HiXLTensorTransport) -> None:
    """Ray would hand the error to the next fetch of the object: the transfer gets its bytes if they come soon, and else ends soon."""
    early, late = TransferMetadata(), TransferMetadata()
    for transfer in (early, late):
        transport.abort_transport("object", transfer)
    assert arrives(transport, publish(owner), early)
    metadata = publish(owner)
    with owner.stopped(), pytest.raises(ray_hixl.TransferTimeout):
        receive(transport, metadata, late).result(timeout=5)
    assert arrives(transport, metadata, TransferMetadata())


def test_aborted_transfers_of_a_source_that_hangs_hold_up_those_behind_them_once(owner: Owner, transport: HiXLTensorTransport) -> None:
    """Until one comes again."""

    def time_of_an_aborted_one() -> float:
        metadata, aborted = publish(owner), TransferMetadata()
        transport.abort_transport("object", aborted)
        with owner.stopped():
            start = time.monotonic()
            with pytest.raises(ray_hixl.TransferTimeout):
                receive(transport, metadata, aborted).result(timeout=10)
            return time.monotonic() - start

    assert time_of_an_aborted_one() > 1.9
    assert min(time_of_an_aborted_one() for _ in range(4)) < 0.5
    assert arrives(transport, publish(owner), TransferMetadata())
    assert time_of_an_aborted_one() > 1.9


def test_a_transfer_that_begins_late_is_tried_and_the_clocks_are_doubted_once(
    owner: Owner, transport: HiXLTensorTransport, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert arrives(transport, publish(owner), TransferMetadata(submitted_at=time.time() - 75))
    assert [record.message for record in caplog.records if "clocks" in record.message] == [caplog.records[0].message]


def test_a_get_that_gives_up_is_a_line_of_the_log(owner: Owner, transport: HiXLTensorTransport, caplog: pytest.LogCaptureFixture) -> None:
    """Ray's own error names neither the object nor its source. Who asks again and again for a moment gets no line each time."""
    metadata = publish(owner)
    with owner.stopped():
        for seconds in (0, 0.1, 1):
            request = transport.fetch_multiple_tensors("late", metadata, TransferMetadata())
            with pytest.raises(TimeoutError):
                transport.wait_fetch_complete(request, seconds)
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.match(r"object late did not come from the engine of process \d+ at \S+ within 1 s, and is not waited for any more", line)


class Untouchable:
    """An actor handle that nobody may ask for anything."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"the actor was asked for {name}")


def test_whether_an_actor_has_the_transport_costs_no_call(transport: HiXLTensorTransport) -> None:
    assert transport.actor_has_tensor_transport(Untouchable())


def test_an_object_is_published_once(transport: HiXLTensorTransport) -> None:
    """Threads that ask for the same object at once, as a retried task does, get the same metadata and leave one slot."""
    process.engine()
    for count in range(20):
        before = ray_hixl.stats()["objects_published"]
        barrier = threading.Barrier(8)

        def publish_at_once(count: int = count, barrier: threading.Barrier = barrier) -> ObjectMetadata:
            tensors = [torch.zeros(10) for _ in range(100)]
            barrier.wait(10)
            return transport.extract_tensor_transport_metadata(f"object {count}", tensors)

        with ThreadPoolExecutor(8) as pool:
            found = [future.result(10) for future in [pool.submit(publish_at_once) for _ in range(8)]]
        assert all(metadata is found[0] for metadata in found)
        assert ray_hixl.stats()["objects_published"] == before + 1
        transport.garbage_collect(f"object {count}", found[0])
    eventually(lambda: ray_hixl.stats()["objects"] == 0)


def test_a_later_try_of_a_task_takes_the_place_of_one_that_raised(transport: HiXLTensorTransport) -> None:
    """Ray up to 2.55 publishes that, too, without tensors."""
    tries = [transport.extract_tensor_transport_metadata("object", tensors) for tensors in ([], [], [torch.arange(10)], [torch.arange(10)])]
    assert [len(metadata.tensor_meta) for metadata in tries] == [0, 0, 1, 1]
    assert tries[2] is tries[3]
    assert torch.equal(process.engine().fetch(tries[2].packed).result()[0], torch.arange(10))
    assert ray_hixl.stats()["objects"] == 1
    transport.garbage_collect("object", tries[2])
    eventually(lambda: ray_hixl.stats()["objects"] == 0)


def test_an_object_freed_while_it_is_published_is_gone(transport: HiXLTensorTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray may free it from a destructor that runs in the middle of publishing, in the same thread: nothing waits, nothing is left."""
    engine = process.engine()
    publish_owned = engine.publish_owned

    def freed_meanwhile(tensors: list[torch.Tensor]) -> Published:
        published = publish_owned(tensors)
        transport.garbage_collect("object", None)
        return published

    monkeypatch.setattr(engine, "publish_owned", freed_meanwhile)
    metadata = transport.extract_tensor_transport_metadata("object", [torch.zeros(10)])
    with pytest.raises(ray_hixl.ObjectFreed):
        engine.fetch(metadata.packed).result()
    eventually(lambda: ray_hixl.stats()["objects"] == 0)


def test_whatever_goes_wrong_is_told_where_the_object_is_fetched(transport: HiXLTensorTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception would kill the source's actor on some versions of Ray; of tensors of every kind."""

    def fail(tensors: list[torch.Tensor]) -> Published:
        raise ZeroDivisionError("of the engine")

    monkeypatch.setattr(process.engine(), "publish_owned", fail)
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    metadata = transport.extract_tensor_transport_metadata("object", [nested, torch.ones(4)])
    assert len(metadata.tensor_meta) == 2
    with pytest.raises(ray_hixl.HixlError, match=r"could not publish.*ZeroDivisionError.*of the engine"):
        transport.recv_multiple_tensors("object", metadata, TransferMetadata())
    transport.garbage_collect("object", metadata)


def test_freeing_starts_no_engine(transport: HiXLTensorTransport) -> None:
    """Ray frees objects of an engine that was shut down, on a thread of its own."""
    transport.extract_tensor_transport_metadata("object", [torch.zeros(10)])
    ray_hixl.shutdown()
    transport.garbage_collect("object", None)
    assert "objects" not in ray_hixl.stats()


def test_an_object_whose_publishing_is_interrupted_is_gone(transport: HiXLTensorTransport) -> None:
    """At the latest when Ray frees it, which it may never have heard of: nothing pins it for longer."""
    tensors = [torch.zeros(10) for _ in range(3)]

    def publish() -> None:
        transport.extract_tensor_transport_metadata("object", tensors)

    publish()
    transport.garbage_collect("object", None)
    for error in at_every_point(publish):
        assert isinstance(error, KeyboardInterrupt)
        assert error.__traceback__ is not None, "what it holds on to does not matter"
        transport.garbage_collect("object", None)
        eventually(lambda: ray_hixl.stats()["objects"] == 0)
    transport.garbage_collect("object", None)


def test_a_forked_child_frees_nothing_of_its_parent(transport: HiXLTensorTransport) -> None:
    """Nor does it start an engine for that. What it publishes under the same name is its own."""
    metadata = transport.extract_tensor_transport_metadata("object", [torch.arange(10)])
    child = os.fork()
    if child == 0:
        sound = False
        try:
            transport.garbage_collect("object", metadata)
            started = "objects" in ray_hixl.stats()
            own = transport.extract_tensor_transport_metadata("object", [torch.arange(5)])
            sound = not started and own.packed != metadata.packed and ray_hixl.stats()["objects"] == 1
        finally:
            os._exit(0 if sound else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert torch.equal(process.engine().fetch(metadata.packed).result()[0], torch.arange(10))
