"""Descriptors and metadata that are cut, too long, or altered anywhere: always an error of ray_hixl, never a crash or a hang."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest

import ray_hixl
from ray_hixl import ConnectError, HixlError, InvalidArgument, InvalidRegion, _core
from support import Owner

# Ends quickly where an altered descriptor names an engine that does not answer.
HASTY = ray_hixl.Options(connect_timeout_s=0.2, transfer_timeout_s=0.3)


@pytest.fixture(scope="module")
def blobs(owner: Owner) -> tuple[bytes, bytes, bytes]:
    """Of the owner: its descriptor, a region's, and metadata of several layouts."""
    owner.run(
        "import numpy\n"
        "region = engine.register(bytearray(64))\n"
        "metadata = engine.publish([numpy.zeros((2, 3), 'float32'), numpy.zeros((2, 3), 'float32'), b'abc', numpy.array(1)])"
    )
    found: tuple[bytes, bytes, bytes] = owner.get("(engine.descriptor, region.descriptor, metadata)")
    return found


def test_engine_descriptor_cut_and_lengthened(engine: ray_hixl.Engine, blobs: tuple[bytes, bytes, bytes]) -> None:
    descriptor = blobs[0]
    for end in range(len(descriptor)):
        with pytest.raises(InvalidArgument, match="truncated") as caught:
            engine.connect(descriptor[:end])
        assert type(caught.value) is InvalidArgument
    for tail in (b"\0", descriptor, bytes(1 << 20)):
        with pytest.raises(InvalidArgument, match="trailing bytes"):
            engine.connect(descriptor + tail)


def test_region_descriptor_cut_and_lengthened(peer: ray_hixl.Peer, blobs: tuple[bytes, bytes, bytes]) -> None:
    descriptor = blobs[1]
    for end in range(len(descriptor)):
        with pytest.raises(InvalidRegion, match="truncated") as caught:
            peer.region(descriptor[:end])
        assert type(caught.value) is InvalidRegion
    for tail in (b"\0", descriptor, bytes(1 << 20)):
        with pytest.raises(InvalidRegion, match="trailing bytes"):
            peer.region(descriptor + tail)


class Trap:
    """What it is pickled as makes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return self.file.touch, ()


def test_nothing_of_a_peer_is_unpickled(engine: ray_hixl.Engine, peer: ray_hixl.Peer, tmp_path: Path) -> None:
    file = tmp_path / "it was unpickled"
    trap = pickle.dumps(Trap(file))
    for call in (engine.connect, peer.region, lambda data: engine.fetch(data).result()):
        with pytest.raises((InvalidArgument, InvalidRegion)):
            call(trap)
    assert not file.exists()
    pickle.loads(trap)
    assert file.exists(), "the trap works"


def test_one_for_the_other(engine: ray_hixl.Engine, peer: ray_hixl.Peer, blobs: tuple[bytes, bytes, bytes]) -> None:
    descriptor, region, metadata = blobs
    with pytest.raises(InvalidArgument, match="not an engine's descriptor: they are a region's descriptor"):
        engine.connect(region)
    with pytest.raises(InvalidRegion, match="not a region's descriptor: they are an engine's descriptor"):
        peer.region(descriptor)
    junk = b"garbage" * 20
    for other, what in ((metadata, "the metadata of an object, which fetch\\(\\) takes"), (junk, "nothing that ray-hixl gives")):
        with pytest.raises(InvalidArgument, match=f"not an engine's descriptor: they are {what}$"):
            engine.connect(other)
        with pytest.raises(InvalidRegion, match=f"not a region's descriptor: they are {what}$"):
            peer.region(other)
    for other, what in (
        (descriptor, "an engine's descriptor, which connect\\(\\) takes"),
        (region, "a region's descriptor, which region\\(\\) of a peer takes"),
        (junk, "nothing that ray-hixl gives"),
    ):
        for call in (lambda other: engine.fetch(other).result(), engine.release):
            with pytest.raises(InvalidArgument, match=f"not valid object metadata: these bytes are {what}$"):
                call(other)


def test_other_versions(engine: ray_hixl.Engine, peer: ray_hixl.Peer, blobs: tuple[bytes, bytes, bytes]) -> None:
    newer = [blob[:4] + (2).to_bytes(2, "little") + blob[6:] for blob in blobs]
    with pytest.raises(InvalidArgument, match="has version 2, this ray-hixl reads version 1: run the same"):
        engine.connect(newer[0])
    with pytest.raises(InvalidRegion, match="has version 2, this ray-hixl reads version 1"):
        peer.region(newer[1])
    with pytest.raises(InvalidArgument, match="metadata: version 2, but this ray-hixl reads version 1; use one release"):
        engine.fetch(newer[2]).result()


def test_metadata_cut_and_lengthened(engine: ray_hixl.Engine, blobs: tuple[bytes, bytes, bytes]) -> None:
    metadata = blobs[2]
    wrong = [metadata[:end] for end in range(len(metadata))] + [metadata + tail for tail in (b"\0", metadata, bytes(1 << 20))]
    for packed in wrong:
        for targets in (None, [bytearray(3)]):
            with pytest.raises(InvalidArgument, match="not valid object metadata") as caught:
                engine.fetch(packed, targets).result()
            assert type(caught.value) is InvalidArgument
        with pytest.raises(InvalidArgument, match="not valid object metadata"):
            _core.Metadata.decode(packed)


def test_metadata_with_random_changes(owner: Owner, blobs: tuple[bytes, bytes, bytes]) -> None:
    """Whatever comes out, it is tensors or an error; the engines go on."""
    descriptor, _, metadata = blobs
    chance = random.Random(1)
    address = range(metadata.index(descriptor), metadata.index(descriptor) + len(descriptor))
    codes = set()
    with ray_hixl.Engine(HASTY) as engine:
        for _ in range(3000):
            packed = bytearray(metadata)
            for _ in range(chance.choice((1, 1, 1, 2, 8))):
                place = chance.randrange(len(packed))
                if place not in address:  # connecting elsewhere is another test's, and slow
                    packed[place] ^= 1 << chance.randrange(8)
            try:
                engine.fetch(bytes(packed)).result()
            except HixlError as error:
                codes.add(error.code)
        assert np.asarray(engine.fetch(metadata).result()[2]).tobytes() == b"abc"
        assert engine.stats()["links"] == 1
    assert {"invalid_argument", "object_freed"} <= codes


def test_texts_that_are_none(engine: ray_hixl.Engine) -> None:
    """A peer's messages are made printable; its names must be."""
    failed = engine.publish_error([b"abc"], ray_hixl.ObjectFreed("what happened"))
    with pytest.raises(ray_hixl.ObjectFreed, match=r"could not publish it: wh[?]t happened"):
        engine.fetch(failed.replace(b"what", b"wh\xfft")).result()
    metadata = engine.publish([b"abc"])
    for name in (b"ui\xff\xfe8", b"uint\0", b"u nt8", b"ui\nt8"):
        with pytest.raises(InvalidArgument, match="layout 0: the name of an element type has 1 to 63 bytes, all printable"):
            engine.fetch(metadata.replace(b"uint8", name)).result()


def test_descriptors_with_random_changes(
    engine: ray_hixl.Engine, peer: ray_hixl.Peer, owner: Owner, blobs: tuple[bytes, bytes, bytes]
) -> None:
    _, region, _ = blobs
    chance = random.Random(2)
    into = engine.register(bytearray(64))
    codes = set()
    for _ in range(1000):
        changed = bytearray(region)
        for _ in range(chance.choice((1, 1, 2, 8))):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        try:
            remote = peer.region(bytes(changed))
            peer.read([(into, 0, remote, 0, min(remote.nbytes, 64))], timeout=2.0)
        except HixlError as error:
            codes.add(error.code)
    assert codes <= {"invalid_region", "not_available"}
    peer.read([(into, 0, peer.region(region), 0, 64)])


def test_engine_descriptor_with_every_byte_changed(blobs: tuple[bytes, bytes, bytes]) -> None:
    """Another key, incarnation, process or address: refused, or the same engine is reached all the same."""
    descriptor = blobs[0]
    for place in range(0, len(descriptor), 2):
        changed = bytearray(descriptor)
        changed[place] ^= 0x41
        with ray_hixl.Engine(HASTY) as engine:
            try:
                engine.connect(bytes(changed)).close()
            except (ConnectError, InvalidArgument, ray_hixl.NotAvailable):
                continue
            except ray_hixl.PeerGone:
                assert 6 <= place < 22 or place >= 54, "who is there says that it is not the one who is meant, or nobody is"
                continue
            assert place >= 54, "the key or the incarnation was not checked"


def test_a_wrong_key_proves_nothing(blobs: tuple[bytes, bytes, bytes]) -> None:
    descriptor = blobs[0]
    with ray_hixl.Engine() as engine, pytest.raises(ConnectError, match="does not prove the engine's key: the key is wrong") as caught:
        engine.connect(descriptor[:22] + bytes(32) + descriptor[54:])
    assert type(caught.value) is ConnectError
    with ray_hixl.Engine() as engine, pytest.raises(ConnectError):
        engine.connect(_core.tcp_only(descriptor)[:22] + bytes(32) + _core.tcp_only(descriptor)[54:])


def test_random_bytes(engine: ray_hixl.Engine, peer: ray_hixl.Peer) -> None:
    chance = random.Random(3)
    for length in [*range(64), 1000, 100_000]:
        garbage = chance.randbytes(length)
        for magic in (b"", b"RHXE\1\0", b"RHXR\1\0", b"RHXO\1\0"):
            with pytest.raises(InvalidArgument):
                engine.connect(magic + garbage if magic != b"RHXE\1\0" or length < 200 else garbage)
            with pytest.raises(InvalidRegion):
                peer.region(magic + garbage)
            with pytest.raises(InvalidArgument):
                engine.fetch(magic + garbage).result()
