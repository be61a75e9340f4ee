"""Objects of buffers and arrays: published here, fetched there, into new memory or into targets, freed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import ray_hixl
from support import Owner, eventually, pattern

DATA = pattern(4096)


def test_a_result_is_the_same_list_in_every_thread(owner: Owner) -> None:
    class SlowToGive:
        def __init__(self, fetch: Any) -> None:
            self.fetch = fetch

        def take(self) -> list[Any]:
            time.sleep(0.05)  # the others arrive
            return self.fetch.take()  # type: ignore[no-any-return]

    metadata = owner.get("engine.publish([b'abc'])")
    with ray_hixl.Engine() as engine:
        fetch = engine.fetch(metadata)
        fetch._fetch = SlowToGive(fetch._fetch)  # type: ignore[assignment]
        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(lambda _: fetch.result(), range(4)))
    assert all(result is results[0] for result in results)


def test_between_processes(engine: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("import numpy\narrays = [numpy.arange(24, dtype='int16').reshape(2, 3, 4), numpy.array(2.5), numpy.zeros((0, 7), 'uint8')]")
    metadata = owner.get("engine.publish([*arrays, given])", given=DATA)
    assert isinstance(metadata, bytes)
    fetched = [np.asarray(one) for one in engine.fetch(metadata, timeout=5.0).result(timeout=5.0)]
    described = [(one.dtype.name, one.shape) for one in fetched]
    assert described == [("int16", (2, 3, 4)), ("float64", ()), ("uint8", (0, 7)), ("uint8", (4096,))]
    sources = [*owner.get("arrays"), np.frombuffer(DATA, np.uint8)]
    for one, expected in zip(fetched, sources, strict=True):
        np.testing.assert_array_equal(one, expected)
    owner.run("engine.release(metadata)", metadata=metadata)


@pytest.mark.parametrize("transports", [("shm", "stream"), ("cma",), ("stream",), ("shm", "cma", "stream")])
@pytest.mark.parametrize("nbytes", [1, 4095, 1 << 20, (8 << 20) + 3])
def test_sizes_on_every_transport(owner: Owner, transports: tuple[str, ...], nbytes: int) -> None:
    owner.run("arena = engine.empty(len(given)); memoryview(arena)[:] = given", given=pattern(nbytes, 3))
    metadata = owner.get("engine.publish([arena, given])")
    with ray_hixl.Engine(ray_hixl.Options(transports=transports)) as reader:
        fetch = reader.fetch(metadata)
        tensors = fetch.result()
        assert all(np.asarray(one).tobytes() == pattern(nbytes, 3) for one in tensors)
        assert sum(fetch.bytes_by_transport().values()) == 2 * nbytes
        assert set(fetch.bytes_by_transport()) <= set(transports)
        seconds = fetch.seconds_by_phase()
        assert list(seconds) == ["connect", "resolve", "move", "check"]
        assert min(seconds.values()) >= 0
        assert seconds["move"] > 0
    owner.run("engine.release(metadata)", metadata=metadata)


def test_any_iterable_is_published(engine: ray_hixl.Engine) -> None:
    for tensors in ((b"a", b"b"), iter([b"a", b"b"]), {b"a": 1, b"b": 2}):
        fetched = engine.fetch(engine.publish(tensors)).result()
        assert [np.asarray(one).tobytes() for one in fetched] == [b"a", b"b"]


def test_no_tensors_at_all(engine: ray_hixl.Engine, owner: Owner) -> None:
    metadata = owner.get("engine.publish([])")
    assert engine.fetch(metadata).result() == []
    assert engine.fetch(metadata, targets=[]).result() == []


def test_many_small_tensors(engine: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("import numpy; many = [numpy.full((i % 5,), i, 'int32') for i in range(5000)]")
    metadata = owner.get("engine.publish(many)")
    assert len(metadata) < 16 * 5000
    fetched = engine.fetch(metadata).result()
    assert [np.asarray(one).tolist() for one in fetched] == [[i] * (i % 5) for i in range(5000)]


def test_fetching_often_gives_copies(engine: ray_hixl.Engine, owner: Owner) -> None:
    metadata = owner.get("engine.publish([bytearray(given)])", given=DATA)
    one, two = (np.asarray(engine.fetch(metadata).result()[0]) for _ in range(2))
    one[:] = 0
    assert two.tobytes() == DATA
    assert np.asarray(engine.fetch(metadata).result()[0]).tobytes() == DATA


def test_targets(engine: ray_hixl.Engine, owner: Owner) -> None:
    owner.run("import numpy; first = numpy.arange(6, dtype='float32').reshape(2, 3)")
    metadata = owner.get("engine.publish([first, given])", given=DATA)
    targets = [np.zeros((2, 3), np.float32), bytearray(len(DATA))]
    fetch = engine.fetch(metadata, targets=targets)
    result = fetch.result()
    assert [one is other for one, other in zip(result, targets, strict=True)] == [True, True]
    assert np.asarray(targets[0]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert targets[1] == DATA
    arena = engine.empty(len(DATA))
    second = owner.get("engine.publish([given])", given=DATA)
    assert engine.fetch(second, (arena,)).result()[0] is arena
    assert bytes(memoryview(arena)) == DATA


def test_targets_may_be_regions(engine: ray_hixl.Engine, owner: Owner) -> None:
    metadata = owner.get("engine.publish([given])", given=DATA)
    memory = bytearray(len(DATA))
    with engine.register(memory):
        engine.fetch(metadata, [memory]).result()
    assert memory == DATA


def test_release_frees(engine: ray_hixl.Engine, owner: Owner) -> None:
    owner.run(
        "import gc, numpy, weakref\n"
        "array = numpy.frombuffer(bytearray(given), 'uint8'); gone = weakref.ref(array)\n"
        "before = engine.stats()['objects']; metadata = engine.publish([array]); del array; gc.collect()",
        given=DATA,
    )
    assert owner.get("(gone() is not None, engine.stats()['objects'] - before)") == (True, 1)
    metadata = owner.get("metadata")
    engine.fetch(metadata).result()
    owner.run("engine.release(metadata)")
    assert owner.get("engine.stats()['objects'] - before") == 0
    eventually(lambda: owner.get("gone() is None"))
    with pytest.raises(ray_hixl.ObjectFreed, match=f"process {owner.pid} .* the owner freed it before or while it was read") as caught:
        engine.fetch(metadata).result()
    assert type(caught.value) is ray_hixl.ObjectFreed
    owner.run("engine.release(metadata)")  # twice is nothing


@pytest.mark.parametrize("transports", [("shm", "stream"), ("cma",), ("stream",)])
def test_freed_before_the_fetch(owner: Owner, transports: tuple[str, ...]) -> None:
    owner.run("arena = engine.empty(len(given)); metadata = engine.publish([arena]); engine.release(metadata)", given=DATA)
    with ray_hixl.Engine(ray_hixl.Options(transports=transports)) as reader:
        for _ in range(2):
            with pytest.raises(ray_hixl.ObjectFreed):
                reader.fetch(owner.get("metadata")).result()


@pytest.mark.parametrize("transports", [("shm", "cma", "stream"), ("cma",), ("stream",)])
def test_freed_while_fetched(owner: Owner, transports: tuple[str, ...]) -> None:
    """Either the right bytes, or ObjectFreed; never something else."""
    nbytes = 4 << 20
    outcomes = []
    with ray_hixl.Engine(ray_hixl.Options(transports=transports)) as reader:
        reader.connect(owner.descriptor)
        expected = pattern(nbytes, 5)
        owner.run("kept = bytearray(given); arena = engine.empty(len(given)); memoryview(arena)[:] = given", given=expected)
        for _ in range(10):
            metadata = owner.get("engine.publish([kept, arena])")
            fetch = reader.fetch(metadata)
            owner.run("engine.release(metadata)", metadata=metadata)
            try:
                assert all(np.asarray(one).tobytes() == expected for one in fetch.result())
                outcomes.append("fetched")
            except ray_hixl.ObjectFreed:
                outcomes.append("freed")
    assert len(outcomes) == 10


def test_release_of_what_is_not_ours(engine: ray_hixl.Engine, owner: Owner) -> None:
    metadata = owner.get("engine.publish([given])", given=DATA)
    with pytest.raises(
        ray_hixl.InvalidArgument, match=rf"the engine of process {owner.pid} at .* published this object, so that only that"
    ):
        engine.release(metadata)
    for other in (b"", b"nonsense", metadata[:20], engine.descriptor):
        with pytest.raises(ray_hixl.InvalidArgument, match="not valid object metadata"):
            engine.release(other)
    assert np.asarray(engine.fetch(metadata).result()[0]).tobytes() == DATA


def test_release_of_what_failed_is_nothing(engine: ray_hixl.Engine) -> None:
    engine.release(engine.publish_quietly([object()]))


def test_publish_quietly_hands_the_error_to_the_fetch(engine: ray_hixl.Engine, owner: Owner) -> None:
    metadata = owner.get("engine.publish_quietly([given, object()])", given=DATA)
    with pytest.raises(ray_hixl.InvalidArgument, match="tensor 1 is neither a tensor nor a buffer but a object"):
        engine.fetch(metadata).result()
    with pytest.raises(ray_hixl.InvalidArgument, match="tensor 1"):
        engine.fetch(metadata, targets=[bytearray(1)]).result()


def test_fetching_from_several_owners_at_once(engine: ray_hixl.Engine, owner: Owner, new_owner: Callable[..., Owner]) -> None:
    owners = [owner, new_owner(), new_owner()]
    all_metadata = [one.get("engine.publish([given])", given=pattern(1 << 20, i)) for i, one in enumerate(owners)]
    fetches = [engine.fetch(metadata) for metadata in all_metadata for _ in range(4)]
    for i, fetch in enumerate(fetches):
        assert np.asarray(fetch.result()[0]).tobytes() == pattern(1 << 20, i // 4)
    assert engine.stats()["links"] == 3


def test_fetching_in_many_threads(engine: ray_hixl.Engine, owner: Owner) -> None:
    metadata = owner.get("engine.publish([given, given])", given=DATA)
    wrong: list[Any] = []

    def fetch_often() -> None:
        for _ in range(50):
            if any(np.asarray(one).tobytes() != DATA for one in engine.fetch(metadata).result()):
                wrong.append("bytes")

    threads = [threading.Thread(target=fetch_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert engine.stats()["transfers_succeeded"] == 200


def test_a_closed_engine_touches_nothing() -> None:
    class Untouched:
        def __dlpack__(self, **_: Any) -> Any:
            raise AssertionError

    with ray_hixl.Engine() as engine:
        pass
    with pytest.raises(ray_hixl.Closed):
        engine.publish([Untouched()])
    with pytest.raises(ray_hixl.Closed):
        engine.register(Untouched())
