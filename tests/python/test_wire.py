"""The tests' own protocol speaks as docs/protocol.md says."""

from __future__ import annotations

import re

import pytest

import wire
from support import ROOT
from wire import EngineDescriptor, Frame, Handle, Hello, RegionDescriptor, frames, handshake

KEY = bytes(range(32))
CLIENT, SERVER = bytes(range(0x40, 0x50)), bytes(range(0x50, 0x60))
HELLO = Hello(SERVER, wire.Purpose.DATA, wire.Transport.STREAM, CLIENT, b"\xc1" * 32)
ENGINE = EngineDescriptor(SERVER, KEY, bytes(range(0x60, 0x70)), 0xF0000001, 0xF0000002, 4242, b"rx-1", "127.0.0.1", 45678)
HANDLE = Handle(7, 3, 0x1122334455667788)
OTHER = Handle(9, 5, 0x99AABBCCDDEEFF00)
CHALLENGE = handshake.challenge(KEY, HELLO.pack(), b"\xd2" * 32)

EXAMPLES = {
    "engine_descriptor": ENGINE.pack(),
    "region_descriptor": RegionDescriptor(SERVER, HANDLE, 4096, flags=1).pack(),
    "hello": HELLO.pack(),
    "challenge": CHALLENGE,
    "other": handshake.OTHER,
    "proof": handshake.proof(KEY, HELLO.pack(), CHALLENGE),
    "welcome": frames.welcome(4242, 1000, True, [(2, b""), (3, b"\xaa\xbb")]),
    "resolve": frames.resolve(9, HANDLE),
    "resolved": frames.resolved(9, [(0x7F0000001000, 0x2000), (0x7F0000100000, 16)], [(5, 0x7F0000000000, 0x200000)]),
    "map_segment": frames.map_segment(10, 5),
    "segment": frames.segment(10, 0x200000),
    "segment_retired": frames.segment_retired(5),
    "read": frames.read(11, [(HANDLE, 256, 1024)]),
    "reading": frames.reading(11, 1024),
    "read_end": frames.read_end(11),
    "failure": frames.failure(9, 4, "no slot 7"),
    "locate": frames.locate(12, HANDLE),
    "located": frames.located(12, [(0, 0x600000, 2, 4, 0x12C1C0000000), (0x600010, 512, 3, 1, 0x12C1C0000200)]),
    "describe_device": frames.describe_device(13, 2),
    "device_description": frames.device_description(13, "10.0.0.7:26000", 4, 6, "hixl 1; hccs"),
    "check": frames.check(14, [HANDLE, OTHER]),
    "checked": frames.checked(14),
    "await_recall": frames.await_recall(15, 2, "10.0.0.7:26000"),
    "recalled": frames.recalled(15),
    "release_device": frames.release_device(16, 2, "10.0.0.7:26000"),
    "released": frames.released(16),
    "cannot_link": frames.cannot_link(17, 2, "10.0.0.7:26000"),
    "noted": frames.noted(17, 1),
    "stage": frames.stage(18, [Handle(12, 9, 0x8877665544332211)], [(HANDLE, 256, 1024), (HANDLE, 4096, 2048)]),
    "staged": frames.staged(18, Handle(13, 5, 0xFFEEDDCCBBAA9988), 5, 1 << 20, 3072),
}


def documented() -> dict[str, bytes]:
    page = (ROOT / "docs" / "protocol.md").read_text()
    blocks = re.findall(r"```text (\w+)\n(.*?)```", page, re.DOTALL)
    return {name: bytes.fromhex(re.sub(r"#.*", "", text)) for name, text in blocks}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_the_documentation(name: str) -> None:
    made = EXAMPLES[name]
    assert (made.pack() if isinstance(made, Frame) else made) == documented()[name]


def test_every_message_is_known() -> None:
    assert set(documented()) - {"object_metadata"} == set(EXAMPLES)
    assert EngineDescriptor.unpack(ENGINE.pack()) == ENGINE
    assert Hello.unpack(HELLO.pack()) == HELLO
