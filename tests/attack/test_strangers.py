"""Who has no key, or the wrong one: refused, whatever is said, at no cost to the engine and to those who have it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from attacked import Attacked

import wire
from support import Owner, eventually
from wire import EngineDescriptor, HungUp, Purpose, Transport, handshake


def recorded(victim: Attacked, over_unix: bool) -> tuple[bytes, bytes, bytes]:
    """What was said in a handshake that succeeded."""
    with victim.connect(over_unix) as connection:
        hello = victim.hello().pack()
        connection.send(hello)
        challenge = connection.exactly(wire.CHALLENGE_BYTES)
        proof = handshake.proof(victim.descriptor.key, hello, challenge)
        connection.send(proof)
        assert connection.frame().type == wire.Type.WELCOME
    return hello, challenge, proof


def is_refused_after_challenge(victim: Attacked, over_unix: bool, hello: bytes, proof: Callable[[bytes], bytes]) -> bool:
    with victim.connect(over_unix) as connection:
        connection.send(hello)
        return wire.is_refused(connection, proof(connection.exactly(wire.CHALLENGE_BYTES)))


def test_recorded_handshakes(victim: Attacked, over_unix: bool) -> None:
    """Played again, in one piece or by turns, on the socket they were recorded on or on the other one."""
    hello, challenge, proof = recorded(victim, over_unix)
    with victim.unharmed():
        for way in (True, False):
            assert is_refused_after_challenge(victim, way, hello, lambda _: proof)
            with victim.connect(way) as connection, contextlib.suppress(HungUp):
                connection.send(hello + proof)
                assert connection.exactly(wire.CHALLENGE_BYTES) != challenge
                assert connection.is_hung_up()


def test_reflected_messages(victim: Attacked, over_unix: bool) -> None:
    """The engine's own words are never good as its peer's."""
    hello = victim.hello().pack()
    key = victim.descriptor.key
    with victim.unharmed(), victim.connect(over_unix) as other:
        other.send(hello)
        elsewhere = other.exactly(wire.CHALLENGE_BYTES)
        reflections: list[Callable[[bytes], bytes]] = [
            lambda challenge: challenge,
            lambda challenge: handshake.prefix(3) + challenge[-32:],
            lambda _: handshake.prefix(3) + elsewhere[-32:],
            lambda challenge: handshake.prefix(3) + handshake.code(key, "server", hello, challenge, handshake.prefix(3)),
            lambda _: handshake.proof(key, hello, elsewhere),  # of another connection of the same client at the same time
        ]
        for reflect in reflections:
            assert is_refused_after_challenge(victim, over_unix, hello, reflect)
        with victim.connect(over_unix) as connection:
            assert wire.is_refused(connection, elsewhere)


def test_keys_that_are_not_the_engines(victim: Attacked, over_unix: bool) -> None:
    """Of another engine, of an earlier life, none at all; and the right key with another engine's name."""
    victim.owner.run("former = ray_hixl.Engine(); former_descriptor = former.descriptor; former.close()")
    former = EngineDescriptor.unpack(victim.owner.get("former_descriptor"))
    other = EngineDescriptor.unpack(victim.owner.get("ray_hixl.Engine().descriptor"))
    hello = victim.hello()
    with victim.unharmed():
        for key in (former.key, other.key, bytes(32), os.urandom(32)):
            said = hello.pack()

            def proof(challenge: bytes, key: bytes = key, said: bytes = said) -> bytes:
                return handshake.proof(key, said, challenge)

            assert is_refused_after_challenge(victim, over_unix, said, proof)
        for incarnation in (former.incarnation, other.incarnation, bytes(16), victim.descriptor.incarnation[::-1]):
            with victim.connect(over_unix) as connection:
                connection.send(replace(hello, server=incarnation).pack())
                assert connection.exactly(len(handshake.OTHER)) == handshake.OTHER
                assert connection.is_hung_up()
    with pytest.raises(OSError, match=r"refused|No such"):  # the former life's own addresses
        wire.connect(former, over_unix)


def test_what_the_codes_cover(victim: Attacked, over_unix: bool) -> None:
    """A bit that changes on the way, in either direction, is noticed: purpose, transport, names, nonces, capabilities."""
    key = victim.descriptor.key
    hello = replace(victim.hello(), purpose=Purpose.DATA, transport=Transport.STREAM).pack()
    with victim.unharmed():
        for place in range(8, wire.HELLO_BYTES):
            changed = bytearray(hello)
            changed[place] ^= 1
            with victim.connect(over_unix) as connection, contextlib.suppress(HungUp):
                connection.send(bytes(changed))
                challenge = connection.exactly(wire.CHALLENGE_BYTES)
                assert not handshake.is_from_server(key, hello, challenge), place
                assert wire.is_refused(connection, handshake.proof(key, hello, challenge)), place
        for place in range(wire.PROOF_BYTES):

            def garbled(challenge: bytes, place: int = place) -> bytes:
                made = bytearray(handshake.proof(key, hello, challenge))
                made[place] ^= 0x80
                return bytes(made)

            assert is_refused_after_challenge(victim, over_unix, hello, garbled), place


def test_openings_that_are_none(victim: Attacked, over_unix: bool) -> None:
    """Cut anywhere, of other versions and steps, of unknown purposes, followed by a mebibyte of anything."""
    hello = victim.hello().pack()
    before = victim.stats("handshakes_refused")
    wrong = [replace(victim.hello(), version=version).pack() for version in (0, 1, wire.VERSION + 1, 0xFFFF)]
    for purpose, transport in ((0, 0), (3, 0), (1, 3), (2, 9)):
        wrong.append(victim.hello(purpose, transport).pack())
    wrong += [handshake.prefix(step) + hello[8:] for step in (0, 2, 3, 9)]
    with victim.unharmed():
        for opening in wrong:
            with victim.connect(over_unix) as connection:
                assert wire.is_refused(connection, opening)
        for cut in range(0, wire.HELLO_BYTES, 3):
            with victim.connect(over_unix) as connection:
                connection.send(hello[:cut])
        with victim.connect(over_unix) as connection, contextlib.suppress(HungUp):
            connection.send(hello + os.urandom(1 << 20))
            assert connection.is_hung_up()
        eventually(lambda: victim.stats("handshakes_refused") == before + len(wrong) + (wire.HELLO_BYTES + 2) // 3 + 1)


def test_descriptors_before_authentication(victim: Attacked) -> None:
    """With every byte of a hello that never ends, as user nobody could: the engine never has one of them."""
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        with victim.unharmed(descriptors=32), contextlib.ExitStack() as held:
            for _ in range(8):
                connection = held.enter_context(victim.connect(over_unix=True))
                with contextlib.suppress(HungUp):
                    for byte in victim.hello().pack()[:-1]:
                        connection.send(bytes([byte]), [null] * 16)
            assert victim.owner.get("open('/dev/null').close()") is None
    finally:
        os.close(null)


def test_that_a_reader_finds_no_other_engine_behind_an_address(victim: Attacked, new_victim: Callable[..., Attacked]) -> None:
    """A descriptor that leads to somebody else is refused by the reader, since that one cannot prove the key."""
    other = new_victim()
    misled = replace(victim.descriptor, unix_name=other.descriptor.unix_name, port=other.descriptor.port)
    reader = Owner()
    try:
        with pytest.raises(Exception, match=r"another engine listens there now: .* or the address is not its own"):
            reader.run("engine.connect(descriptor, timeout=20)", descriptor=misled.pack())
    finally:
        reader.close()
