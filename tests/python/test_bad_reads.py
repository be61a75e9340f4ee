"""Reads that must not work: out of bounds, closed, foreign, altered, or simply the wrong type. Each with its class and its reason."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import ray_hixl
from ray_hixl import Closed, InvalidArgument, InvalidRegion
from support import Owner

MAX = 2**64 - 1
SLOT, GENERATION, KEY, LENGTH = (22, "<I"), (26, "<Q"), (34, "<Q"), (42, "<Q")


class Both:
    """A local region of 100 bytes and a remote one of 1000."""

    def __init__(self, engine: ray_hixl.Engine, owner: Owner, region: str = "engine.register(bytearray(1000))") -> None:
        owner.run(f"region = {region}")
        self.engine = engine
        self.peer = engine.connect(owner.descriptor)
        self.local = engine.register(bytearray(100))
        self.descriptor: bytes = owner.get("region.descriptor")
        self.remote = self.peer.region(self.descriptor)


@pytest.fixture
def both(engine: ray_hixl.Engine, owner: Owner) -> Both:
    return Both(engine, owner)


def altered(descriptor: bytes, field: tuple[int, str], value: int) -> bytes:
    made = bytearray(descriptor)
    struct.pack_into(field[1], made, field[0], value)
    return bytes(made)


def exactly(error: type[BaseException], match: str | None, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=match) as caught:
        call()
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("local_offset", "remote_offset", "nbytes", "match"),
    [
        (0, 0, 101, "101 bytes at offset 0 do not lie inside the local region of 100 bytes"),
        (100, 0, 1, "1 bytes at offset 100 do not lie inside the local region"),
        (MAX, 0, 2, "do not lie inside the local region"),
        (1, 0, MAX, "do not lie inside the local region"),
        (0, 1000, 1, "1 bytes at offset 1000 do not lie inside the remote region of 1000 bytes"),
        (0, 951, 50, "50 bytes at offset 951 do not lie inside the remote region"),
        (0, MAX - 49, 100, "do not lie inside the remote region"),
        (101, 0, 0, "0 bytes at offset 101 do not lie inside the local region"),
    ],
)
def test_out_of_bounds(both: Both, local_offset: int, remote_offset: int, nbytes: int, match: str) -> None:
    good = (both.local, 0, both.remote, 0, 1)
    ops = [good, (both.local, local_offset, both.remote, remote_offset, nbytes)]
    for call in (both.peer.prepare, both.peer.read, both.peer.read_async):
        exactly(InvalidRegion, f"op 1: .*{match}", partial(call, ops))
    if max(local_offset, remote_offset, nbytes) < 2**63:
        columns = [np.array(column, np.int64) for column in ([0, 0], [0, local_offset], [0, 0], [0, remote_offset], [1, nbytes])]
        exactly(InvalidRegion, f"op 1: .*{match}", lambda: both.peer.prepare([both.local], *columns[:2], [both.remote], *columns[2:]))


@pytest.mark.parametrize("transports", [("shm", "stream"), ("cma",), ("stream",)])
@pytest.mark.parametrize("region", ["engine.register(bytearray(1000))", "engine.empty(1000).region"])
def test_owner_checks_what_the_reader_claims(owner: Owner, transports: tuple[str, ...], region: str) -> None:
    """A descriptor altered on its way: each field is checked, and the link is fine afterwards."""
    with ray_hixl.Engine(ray_hixl.Options(transports=transports)) as engine:
        both = Both(engine, owner, region)
        key = struct.unpack_from("<Q", both.descriptor, KEY[0])[0]
        generation = struct.unpack_from("<Q", both.descriptor, GENERATION[0])[0]
        slot = struct.unpack_from("<I", both.descriptor, SLOT[0])[0]
        changes = [(KEY, key ^ 1), (KEY, 0), (GENERATION, generation + 2), (GENERATION, 0), (GENERATION, MAX), (SLOT, slot + 1)]
        changes += [(SLOT, 2**32 - 1)]
        for field, value in changes:
            remote = both.peer.region(altered(both.descriptor, field, value))
            exactly(InvalidRegion, None, partial(both.peer.read, [(both.local, 0, remote, 0, 100)]))
        longer = both.peer.region(altered(both.descriptor, LENGTH, 1 << 40))
        for offset in (950, 1000, 1 << 39):
            exactly(InvalidRegion, None, partial(both.peer.read, [(both.local, 0, longer, offset, 100)]))
        both.peer.read([(both.local, 0, both.remote, 900, 100)])
        assert owner.get("region.open")


@pytest.mark.parametrize("transports", [("shm", "stream"), ("cma",), ("stream",)])
@pytest.mark.parametrize("region", ["engine.register(bytearray(1000))", "engine.empty(1000).region"])
def test_closed_remote_region(owner: Owner, transports: tuple[str, ...], region: str) -> None:
    """Also when its addresses are known here from earlier reads, and when its slot is another region's now."""
    with ray_hixl.Engine(ray_hixl.Options(transports=transports)) as engine:
        both = Both(engine, owner, region)
        batch = both.peer.prepare([(both.local, 0, both.remote, 0, 100)])
        both.peer.read(batch)
        owner.run("region.close()")
        exactly(InvalidRegion, f"process {owner.pid} ", lambda: both.peer.read(batch))
        owner.run("another = engine.register(bytearray(1000))")
        exactly(InvalidRegion, f"process {owner.pid} ", lambda: both.peer.read(batch))
        exactly(InvalidRegion, f"process {owner.pid} ", lambda: both.peer.read([(both.local, 0, both.peer.region(both.descriptor), 0, 1)]))


def test_closed_region_among_others(both: Both, owner: Owner) -> None:
    """The error names the op, and what the owner's side has to do."""
    owner.run("regions = [engine.register(bytearray(16)) for _ in range(3)]")
    remotes = [both.peer.region(descriptor) for descriptor in owner.get("[region.descriptor for region in regions]")]
    ops = [(both.local, 0, remotes[i], 0, 16) for i in (0, 0, 2, 1, 2)]
    batch = both.peer.prepare(ops)
    both.peer.read(batch)
    owner.run("regions.pop(1)")  # the last handle
    what = "closed or freed the memory .*: its Region was closed, or its handle dropped: keep the Region while others read$"
    for read in (lambda: both.peer.read(batch), lambda: both.peer.read(ops)):
        exactly(InvalidRegion, f"^op 3: the engine of process {owner.pid} at .* {what}", read)
    exactly(InvalidRegion, "^op 0: the engine", lambda: both.peer.read([(both.local, 0, remotes[1], 0, 1)]))


def test_closed_local_region(both: Both) -> None:
    batch = both.peer.prepare([(both.local, 0, both.remote, 0, 4)])
    both.local.close()
    exactly(InvalidRegion, "local region of the batch was closed", lambda: both.peer.read(batch))
    exactly(
        InvalidRegion,
        "op 0: the local region was closed: register its memory again",
        lambda: both.peer.prepare([(both.local, 0, both.remote, 0, 4)]),
    )


def test_batch_keeps_its_local_regions_open(both: Both) -> None:
    into = bytearray(4)
    batch = both.peer.prepare([(both.engine.register(into), 0, both.remote, 0, 4)])
    both.peer.read(batch)


def test_regions_of_others(both: Both, new_owner: Callable[..., Owner]) -> None:
    other = new_owner()
    other.run("region = engine.register(bytearray(10))")
    descriptor = other.get("region.descriptor")
    exactly(InvalidRegion, "belongs to another engine than this peer", lambda: both.peer.region(descriptor))
    foreign = both.engine.connect(other.descriptor).region(descriptor)
    exactly(InvalidRegion, "op 0: the remote region belongs to another engine", lambda: both.peer.prepare([(both.local, 0, foreign, 0, 1)]))
    with ray_hixl.Engine() as second:
        stranger = second.register(bytearray(10))
        exactly(InvalidRegion, "op 0: the local region belongs to another", lambda: both.peer.prepare([(stranger, 0, both.remote, 0, 1)]))
        batch = both.peer.prepare([(both.local, 0, both.remote, 0, 1)])
        peer = both.engine.connect(second.descriptor)
        exactly(InvalidRegion, "prepared with another peer", lambda: peer.read(batch))


def test_read_only_memory_is_no_destination(both: Both) -> None:
    constant = both.engine.register(b"constant")
    exactly(InvalidArgument, "local region 0 is read-only memory", lambda: both.peer.prepare([(constant, 0, both.remote, 0, 1)]))
    one = np.zeros(1, np.int64)
    exactly(
        InvalidArgument, "region 1 is read-only", lambda: both.peer.prepare([both.local, constant], one, one, [both.remote], one, one, one)
    )


@pytest.mark.parametrize(
    ("op", "match"),
    [
        ((), "is no tuple of local region, local offset"),
        ((1, 2, 3), "is no tuple of"),
        (None, "is no tuple of"),
        ("12345", "is no tuple of"),
        (("local", 0, "remote", 0, 1, 0), "is no tuple of"),
        (("local", -1, "remote", 0, 1), "its local offset is -1, not a whole number >= 0"),
        (("local", 0, "remote", 0, -1), "its number of bytes is -1, not"),
        (("local", 0, "remote", 0, 2**64), f"its number of bytes is {2**64}, not"),
        (("local", 0, "remote", 10**5000, 1), "its remote offset is of type int, not"),
        (("local", 0.5, "remote", 0, 1), "its local offset is 0.5, not"),
        (("local", "0", "remote", 0, 1), "its local offset is of type str, not"),
        (("remote", 0, "local", 0, 1), r"its local region is of type RemoteRegion, not a Region: engine.register\(memory\)"),
        (("buffer", 0, "remote", 0, 1), r"its local region is of type Buffer, not a Region: .*the \.region of engine.empty"),
        ((None, 0, "remote", 0, 1), "its local region is of type NoneType"),
        (("local", 0, "descriptor", 0, 1), r"its remote region is of type bytes, not a RemoteRegion: peer.region\(descriptor\)"),
    ],
)
def test_malformed_ops(both: Both, op: Any, match: str) -> None:
    parts = {"local": both.local, "remote": both.remote, "descriptor": both.descriptor, "buffer": both.engine.empty(1)}
    made = tuple(parts.get(part, part) if isinstance(part, str) else part for part in op) if isinstance(op, tuple) else op
    exactly(InvalidArgument, f"op 1:? {match}", lambda: both.peer.prepare([(both.local, 0, both.remote, 0, 1), made]))


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        (0, np.array([1]), "op 0: there is no local region 1 among 1"),
        (0, np.array([-1]), "op 0: there is no local region -1"),
        (1, np.array([-1]), "op 0: offsets and lengths must not be negative"),
        (2, np.array([7]), "op 0: there is no remote region 7 among 1"),
        (3, np.array([-(2**63)]), "op 0: offsets and lengths must not be negative"),
        (4, np.array([-1]), "op 0: offsets and lengths must not be negative"),
        (0, np.array([0, 0]), "must have the same length"),
        (3, np.array([], np.int64), "must have the same length"),
        (1, np.array([0], np.int32), "local_offset must be a one-dimensional array of int64"),
        (2, np.array([0], np.uint64), "remote_index must be a one-dimensional array of int64"),
        (4, np.array([[1]]), "nbytes must be a one-dimensional array of int64"),
        (4, np.array([1.0]), "nbytes must be a one-dimensional array of int64"),
        (4, np.zeros(4, np.int64)[::2], "not contiguous"),
        (3, [0], "neither a tensor nor a buffer but a list"),
        (3, "0", "neither a tensor nor a buffer but a str"),
    ],
)
def test_malformed_arrays(both: Both, column: int, value: Any, match: str) -> None:
    columns: list[Any] = [np.array([number]) for number in (0, 0, 0, 0, 1)]
    columns[column] = value
    exactly(InvalidArgument, match, lambda: both.peer.prepare([both.local], *columns[:2], [both.remote], *columns[2:]))


def test_what_is_no_list_of_regions(both: Both) -> None:
    prepare: Any = both.peer.prepare
    one = np.zeros(1, np.int64)
    for locals_, remotes, error, match in (
        (None, [both.remote], TypeError, "a list of local regions is wanted, .* of type NoneType"),
        (both.local, [both.remote], TypeError, "a list of local regions is wanted, .* of type Region"),
        ([both.local], both.remote, TypeError, "a list of remote regions is wanted, .* of type RemoteRegion"),
        ([both.local, 5], [both.remote], InvalidArgument, r"local region 1 is 5, not a Region: engine.register\(memory\)"),
        ([both.local], [both.local], InvalidArgument, r"remote region 0 is of type Region, not a RemoteRegion: peer.region"),
    ):
        exactly(error, match, lambda locals_=locals_, remotes=remotes: prepare(locals_, one, one, remotes, one, one, one))


def test_wrong_types(both: Both) -> None:
    engine: Any = both.engine
    peer: Any = both.peer
    calls: list[Callable[[], Any]] = [
        lambda: peer.region("text"),
        lambda: peer.region(None),
        lambda: peer.prepare(None),
        lambda: peer.prepare([], 1, 2),
        lambda: peer.prepare([1], *[np.zeros(1, np.int64)] * 2, [both.remote], *[np.zeros(1, np.int64)] * 3),
        lambda: peer.prepare([both.local], None, None, [both.remote], None, None, None),
        lambda: peer.read_async(3),
        lambda: peer.read([], timeout="soon"),
        lambda: peer.path("host", 3),
        lambda: engine.connect(3),
        lambda: engine.connect(engine.descriptor, timeout="soon"),
        lambda: engine.register(None),
        lambda: engine.register(3),
        lambda: engine.register([1, 2]),
        lambda: engine.empty("many"),
        lambda: engine.empty(-1),
        lambda: engine.empty(1.5),
        lambda: engine.publish(None),
        lambda: engine.publish(3),
        lambda: engine.fetch("text"),
        lambda: engine.fetch(None),
        lambda: engine.fetch(engine.publish([b"a"]), targets=3),
        lambda: engine.release("text"),
        lambda: ray_hixl.Engine({"host": "127.0.0.1"}),  # type: ignore[arg-type]
        lambda: peer.read_async([]).wait("soon"),
    ]
    for number, call in enumerate(calls):
        with pytest.raises((TypeError, InvalidArgument)):
            print(number, call())


def test_too_much_memory(engine: ray_hixl.Engine) -> None:
    for nbytes, match in (
        (1 << 50, r"a segment of 1024 TiB does not fit: \d{1,4} [KMGT]iB are available"),
        (1 << 62, "a segment of 4096 PiB does not fit"),
        (2**63, None),
        (MAX, None),
    ):
        exactly(ray_hixl.OutOfMemory, match, partial(engine.empty, nbytes))
    assert engine.empty(10).nbytes == 10


def test_calls_after_closing_the_engine(owner: Owner) -> None:
    engine = ray_hixl.Engine()
    both = Both(engine, owner)
    batch = both.peer.prepare([(both.local, 0, both.remote, 0, 1)])
    metadata = engine.publish([b"a"])
    engine.close()
    calls: list[Callable[[], Any]] = [
        lambda: engine.register(bytearray(1)),
        lambda: engine.empty(1),
        lambda: engine.connect(owner.descriptor),
        lambda: engine.publish([b"a"]),
        lambda: engine.fetch(metadata).result(),
        lambda: engine.fetch(metadata, [bytearray(1)]).result(),
        lambda: both.peer.region(both.descriptor),
        lambda: both.peer.prepare([]),
        lambda: both.peer.read(batch),
        lambda: both.peer.path(),
    ]
    for call in calls:
        exactly(Closed, None, call)
    engine.release(metadata)
    both.peer.close()
    both.local.close()
    engine.close()
    assert isinstance(engine.stats(), dict)
    assert isinstance(engine.descriptor, bytes)
    with pytest.raises(ray_hixl.HixlError):
        engine.fetch(engine.publish_quietly([b"a"])).result()


def test_calls_after_closing_the_peer(both: Both) -> None:
    batch = both.peer.prepare([(both.local, 0, both.remote, 0, 1)])
    both.peer.close()
    for call in (lambda: both.peer.region(both.descriptor), lambda: both.peer.prepare([]), lambda: both.peer.read(batch), both.peer.path):
        exactly(Closed, "the peer was closed; connect again", call)
    both.peer.close()
