"""``Options(publish="snapshot")``: what is fetched is what was published, whatever becomes of the tensors, and it is read by shm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import ray_hixl
from support import Owner, eventually, pattern

DATA = pattern(3 << 20)
SHM = ray_hixl.Options(transports=("shm",))


@pytest.fixture(scope="module")
def source() -> Iterator[Owner]:
    """Another process, with torch, whose engine takes snapshots."""
    made = Owner({"publish": "snapshot"}, prepare="import torch, numpy")
    yield made
    made.close()


@pytest.fixture
def reader() -> Iterator[ray_hixl.Engine]:
    with ray_hixl.Engine(SHM) as made:
        yield made


def test_what_is_written_afterwards_is_not_seen(source: Owner, reader: ray_hixl.Engine, engine: ray_hixl.Engine) -> None:
    source.run("mine = bytearray(given); metadata = engine.publish([mine]); mine[:] = bytes(len(mine))", given=DATA)
    assert np.asarray(reader.fetch(source.get("metadata")).result()[0]).tobytes() == DATA
    assert np.asarray(engine.fetch(source.get("metadata")).result()[0]).tobytes() == DATA, "by any transport"


def test_a_buffer_is_its_owners_again(source: Owner, reader: ray_hixl.Engine) -> None:
    source.run("mine = bytearray(given); metadata = engine.publish([mine])", given=DATA)

    def resized() -> bool:
        try:
            source.run("mine.clear()")
        except BufferError:
            return False
        return True

    eventually(resized)
    assert np.asarray(reader.fetch(source.get("metadata")).result()[0]).tobytes() == DATA


def test_a_storage_may_be_freed(source: Owner, reader: ray_hixl.Engine) -> None:
    source.run("tensor = torch.arange(1 << 20); metadata = engine.publish([tensor]); tensor.untyped_storage().resize_(0)")
    (fetched,) = reader.fetch(source.get("metadata")).result()
    np.testing.assert_array_equal(np.asarray(fetched), np.arange(1 << 20))


def test_tensors_of_every_kind(source: Owner, reader: ray_hixl.Engine) -> None:
    """Those that torch packs, one without elements, one twice, and one that was born in the source arena."""
    source.run(
        "plain = torch.arange(6.)\n"
        "born = numpy.frombuffer(engine.empty(8), numpy.uint8); born[:] = 5\n"
        "tensors = [plain, plain.view(2, 3).t(), torch.zeros(0, 3), plain, torch.tensor([1 + 2j]).conj().imag, born]\n"
        "metadata = engine.publish(tensors)\n"
        "expected = [torch.as_tensor(one).tolist() for one in tensors]\n"
        "plain.fill_(9); born[:] = 9"
    )
    assert [np.asarray(one).tolist() for one in reader.fetch(source.get("metadata")).result()] == source.get("expected")


def test_within_one_process() -> None:
    """Even into the very memory that was published."""
    with ray_hixl.Engine(ray_hixl.Options(publish="snapshot")) as engine:
        mine = bytearray(DATA)
        metadata = engine.publish([mine])
        mine[:] = bytes(len(mine))
        assert np.asarray(engine.fetch(metadata).result()[0]).tobytes() == DATA
        engine.fetch(metadata, targets=[mine]).result()
        assert mine == DATA


def test_out_of_memory_is_raised_by_publish_and_told_to_a_fetch(new_owner: Callable[..., Owner], engine: ray_hixl.Engine) -> None:
    owner = new_owner(options={"publish": "snapshot"})
    owner.run(
        "import resource\n"
        "mine = bytearray(128 << 20)\n"
        "engine.release(engine.publish([b'all threads there are']))\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20), resource.RLIM_INFINITY))"
    )
    with pytest.raises(ray_hixl.OutOfMemory, match='a snapshot takes memory, which publish="alias" does not'):
        owner.run("engine.publish([mine])")
    with pytest.raises(ray_hixl.OutOfMemory, match="its source could not publish it"):
        engine.fetch(owner.get("engine.publish_quietly([mine])")).result()
    assert owner.get("engine.stats()['source']['live_blocks']") == 0
