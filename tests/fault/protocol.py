"""What the proxy does with the bytes between two engines: cuts them into messages, garbles one, and leads connections past itself."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from wire import CHALLENGE_BYTES, HELLO_BYTES, PROOF_BYTES, EngineDescriptor, Frame, Purpose, Type

_PURPOSE = 8  # where a hello has it
_WRONG_SIZES = (0xFFFFFFFF, 3)  # longer than any frame, and shorter than its header
_DOWN = (("challenge", CHALLENGE_BYTES),)
_UP = (("hello", HELLO_BYTES), ("proof", PROOF_BYTES))


@dataclass
class Message:
    """One message, or a piece of the payload behind a `reading`."""

    name: str
    data: bytes
    descriptors: list[int] = field(default_factory=list)


class Splitter:
    """Cuts what one side of a connection says into messages."""

    def __init__(self, down: bool) -> None:
        """``down``: the owner speaks."""
        self.is_data = False
        self._handshake = deque(_DOWN if down else _UP)
        self._held = b""
        self._payload = 0
        self._descriptors: list[int] = []

    def feed(self, data: bytes, descriptors: list[int]) -> Iterator[Message]:
        self._held += data
        self._descriptors += descriptors
        while message := self._next():
            yield message

    def _next(self) -> Message | None:
        if self._payload > 0:
            piece = self._take(min(self._payload, len(self._held)))
            self._payload -= len(piece)
            return Message("payload", piece) if piece else None
        if self._handshake:
            return self._step()
        size = Frame.size_of(self._held)
        if size is None or len(self._held) < size:
            return None
        return self._frame(self._take(size))

    def _step(self) -> Message | None:
        name, size = self._handshake[0]
        if len(self._held) < size:
            return None
        self._handshake.popleft()
        message = Message(name, self._take(size))
        if name == "hello":
            self.is_data = message.data[_PURPOSE] == Purpose.DATA
        return message

    def _frame(self, data: bytes) -> Message:
        frame = Frame.unpack(data)
        name = Type(frame.type).name.lower() if frame.type in set(Type) else f"type {frame.type}"
        if frame.type == Type.READING:
            (self._payload,) = struct.unpack("<Q", frame.body)
        taken, self._descriptors = self._descriptors[: frame.descriptors], self._descriptors[frame.descriptors :]
        return Message(name, data, taken)

    def _take(self, size: int) -> bytes:
        taken, self._held = self._held[:size], self._held[size:]
        return taken


def garbled(message: Message, how: int) -> bytes:
    """The message, changed so that its receiver can tell: what guards it (a code, a header) does not fit any more."""
    changed = bytearray(message.data)
    if message.name in ("hello", "challenge", "proof"):
        changed[how % len(changed)] ^= 1 << how % 8
        return bytes(changed)
    frame = Frame.unpack(bytes(changed))
    if how % 3 < 2:
        return frame.pack(_WRONG_SIZES[how % 3])
    return replace(frame, type=0x7777).pack()


def past(descriptor: bytes, unix_name: bytes, host: str, port: int) -> bytes:
    """The same engine, found elsewhere. An empty name: by TCP alone."""
    return replace(EngineDescriptor.unpack(descriptor), unix_name=unix_name, host=host, port=port).pack()


def with_engine(metadata: bytes, descriptor: bytes, other: bytes) -> bytes:
    """An object's metadata that names another engine's descriptor."""
    old, new = (struct.pack("<I", len(each)) + each for each in (descriptor, other))
    assert metadata.count(old) == 1
    return metadata.replace(old, new)
