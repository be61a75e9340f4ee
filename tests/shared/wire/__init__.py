"""ray-hixl's protocol, written from docs/protocol.md alone, for tests that speak it themselves: as a reader, as an owner, or in between.

It shares no code with the product, and checks nothing of what it is told to say: lies are what it is for. ``tests/python/test_wire.py``
compares it with the examples in docs/protocol.md.
"""

from wire.connection import Connection, HungUp, authenticate, connect, is_refused
from wire.descriptors import EngineDescriptor, Handle, RegionDescriptor, object_metadata
from wire.frames import HEADER_BYTES, Code, Frame, Reader, Type
from wire.handshake import CHALLENGE_BYTES, HELLO_BYTES, PROOF_BYTES, VERSION, Hello, Purpose, Transport
from wire.server import Impostor

__all__ = [
    "CHALLENGE_BYTES",
    "HEADER_BYTES",
    "HELLO_BYTES",
    "PROOF_BYTES",
    "VERSION",
    "Code",
    "Connection",
    "EngineDescriptor",
    "Frame",
    "Handle",
    "Hello",
    "HungUp",
    "Impostor",
    "Purpose",
    "Reader",
    "RegionDescriptor",
    "Transport",
    "Type",
    "authenticate",
    "connect",
    "is_refused",
    "object_metadata",
]
