"""The handshake's three messages and the codes in them."""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import struct
from dataclasses import dataclass, field

VERSION = 2
HELLO_BYTES, CHALLENGE_BYTES, PROOF_BYTES = 82, 72, 40
_CHALLENGE_HEAD = 40


class Purpose(enum.IntEnum):
    CONTROL = 1
    DATA = 2


class Transport(enum.IntEnum):
    LOCAL = 0
    SHM = 1
    CMA = 2
    STREAM = 3
    HIXL = 4


def prefix(step: int, version: int = VERSION) -> bytes:
    return b"RHXL" + struct.pack("<HBB", version, step, 0)


OTHER = prefix(4)  # in place of a challenge: another engine is meant


def code(key: bytes, side: str, *messages: bytes) -> bytes:
    """The code of the ``side``, ``server`` or ``client``, over what was said so far."""
    return hmac.new(key, b"ray-hixl " + side.encode() + b"".join(messages), hashlib.sha256).digest()


@dataclass
class Hello:
    server: bytes
    purpose: int = Purpose.CONTROL
    transport: int = Transport.LOCAL
    client: bytes = field(default_factory=lambda: os.urandom(16))
    nonce: bytes = field(default_factory=lambda: os.urandom(32))
    capabilities: int = 0
    version: int = VERSION

    def pack(self) -> bytes:
        fields = bytes([self.purpose, self.transport]) + self.client + self.server + self.nonce
        return prefix(1, self.version) + fields + struct.pack("<Q", self.capabilities)

    @classmethod
    def unpack(cls, data: bytes) -> Hello:
        assert len(data) == HELLO_BYTES
        assert data[:8] == prefix(1)
        return cls(data[26:42], data[8], data[9], data[10:26], data[42:74], *struct.unpack("<Q", data[74:]))


def challenge(key: bytes, hello: bytes, nonce: bytes) -> bytes:
    head = prefix(2) + nonce
    return head + code(key, "server", hello, head)


def is_from_server(key: bytes, hello: bytes, message: bytes) -> bool:
    """Does the challenge's code prove that its sender has the key?"""
    return hmac.compare_digest(message[_CHALLENGE_HEAD:], code(key, "server", hello, message[:_CHALLENGE_HEAD]))


def proof(key: bytes, hello: bytes, the_challenge: bytes) -> bytes:
    return prefix(3) + code(key, "client", hello, the_challenge, prefix(3))
