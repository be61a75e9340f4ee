"""Frames: their header, and the bodies of all messages."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from wire.descriptors import Handle

_HEADER = struct.Struct("<IHHQ")
HEADER_BYTES = _HEADER.size


class Type(enum.IntEnum):
    WELCOME = 1
    RESOLVE = 2
    RESOLVED = 3
    MAP_SEGMENT = 4
    SEGMENT = 5
    SEGMENT_RETIRED = 6
    READ = 7
    READING = 8
    READ_END = 9
    FAILURE = 10
    LOCATE = 11
    LOCATED = 12
    DESCRIBE_DEVICE = 13
    DEVICE_DESCRIPTION = 14
    CHECK = 15
    CHECKED = 16
    AWAIT_RECALL = 17
    RECALLED = 18
    RELEASE_DEVICE = 19
    RELEASED = 20
    CANNOT_LINK = 21
    NOTED = 22
    STAGE = 23
    STAGED = 24


class Code(enum.IntEnum):
    """Of a status."""

    OK = 0
    CONNECT_ERROR = 1
    TRANSFER_TIMEOUT = 2
    PEER_GONE = 3
    INVALID_REGION = 4
    OBJECT_FREED = 5
    CANCELLED = 6
    CLOSED = 7
    UNSUPPORTED_TENSOR = 8
    OUT_OF_MEMORY = 9
    NOT_AVAILABLE = 10
    INVALID_ARGUMENT = 11
    INTERNAL = 12


@dataclass
class Frame:
    """One frame. ``descriptors`` is what its header says; ``fds`` are those that came with it, now the holder's to close."""

    type: int
    request: int
    body: bytes = b""
    descriptors: int = 0
    fds: list[int] = field(default_factory=list)

    def pack(self, size: int | None = None) -> bytes:
        """``size``: what the header is to say, where it is not the truth."""
        said = HEADER_BYTES + len(self.body) if size is None else size
        return _HEADER.pack(said, self.type, self.descriptors, self.request) + self.body

    @classmethod
    def size_of(cls, data: bytes) -> int | None:
        """Bytes of the first frame in ``data``; nothing while its header is not complete."""
        return None if len(data) < HEADER_BYTES else int(_HEADER.unpack_from(data)[0])

    @classmethod
    def unpack(cls, data: bytes) -> Frame:
        """``data`` is exactly one frame."""
        size, kind, descriptors, request = _HEADER.unpack_from(data)
        assert size == len(data)
        return cls(kind, request, data[HEADER_BYTES:], descriptors)


class Reader:
    """Takes fields from a body, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self._data)
        self._data = self._data[struct.calcsize("<" + layout) :]
        return values

    def bytes(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        assert len(taken) == count
        return taken

    def end(self) -> None:
        assert self._data == b""


def _text(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<H", len(raw)) + raw


def _list(layout: str, rows: Sequence[Sequence[int]]) -> bytes:
    return b"".join(struct.pack("<" + layout, *row) for row in rows)


def status(code: int, message: str | bytes = "") -> bytes:
    return bytes([code]) + _text(message)


def welcome(
    pid: int, uid: int, generations: bool, transports: Sequence[tuple[int, bytes]], capabilities: int = 0, descriptors: int | None = None
) -> Frame:
    body = struct.pack("<IIQBB", pid, uid, capabilities, generations, len(transports))
    body += b"".join(bytes([kind]) + struct.pack("<I", len(details)) + details for kind, details in transports)
    return Frame(Type.WELCOME, 0, body, int(generations) if descriptors is None else descriptors)


def resolve(request: int, handle: Handle) -> Frame:
    return Frame(Type.RESOLVE, request, handle.pack())


def resolved(request: int, ranges: Sequence[tuple[int, int]], segments: Sequence[tuple[int, int, int]] = ()) -> Frame:
    counts = struct.pack("<II", len(ranges), len(segments))
    return Frame(Type.RESOLVED, request, counts + _list("QQ", ranges) + _list("IQQ", segments))


def map_segment(request: int, segment: int) -> Frame:
    return Frame(Type.MAP_SEGMENT, request, struct.pack("<I", segment))


def segment(request: int, length: int, descriptors: int = 1) -> Frame:
    return Frame(Type.SEGMENT, request, struct.pack("<Q", length), descriptors)


def segment_retired(segment: int) -> Frame:
    return Frame(Type.SEGMENT_RETIRED, 0, struct.pack("<I", segment))


def _spans(spans: Sequence[tuple[Handle, int, int]]) -> bytes:
    return b"".join(handle.pack() + struct.pack("<QQ", offset, length) for handle, offset, length in spans)


def read(request: int, spans: Sequence[tuple[Handle, int, int]]) -> Frame:
    return Frame(Type.READ, request, struct.pack("<I", len(spans)) + _spans(spans))


def reading(request: int, count: int) -> Frame:
    return Frame(Type.READING, request, struct.pack("<Q", count))


def read_end(request: int, code: int = 0, message: str | bytes = "") -> Frame:
    return Frame(Type.READ_END, request, status(code, message))


def failure(request: int, code: int, message: str | bytes) -> Frame:
    return Frame(Type.FAILURE, request, status(code, message))


def locate(request: int, handle: Handle) -> Frame:
    return Frame(Type.LOCATE, request, handle.pack())


def located(request: int, ranges: Sequence[tuple[int, int, int, int, int]]) -> Frame:
    return Frame(Type.LOCATED, request, struct.pack("<I", len(ranges)) + _list("QQIQQ", ranges))


def describe_device(request: int, device: int) -> Frame:
    return Frame(Type.DESCRIBE_DEVICE, request, struct.pack("<I", device))


def await_recall(request: int, device: int, engine: str) -> Frame:
    return Frame(Type.AWAIT_RECALL, request, struct.pack("<I", device) + _text(engine))


def recalled(request: int) -> Frame:
    return Frame(Type.RECALLED, request)


def release_device(request: int, device: int, engine: str) -> Frame:
    return Frame(Type.RELEASE_DEVICE, request, struct.pack("<I", device) + _text(engine))


def released(request: int) -> Frame:
    return Frame(Type.RELEASED, request)


def cannot_link(request: int, device: int, engine: str) -> Frame:
    return Frame(Type.CANNOT_LINK, request, struct.pack("<I", device) + _text(engine))


def noted(request: int, replaced: int) -> Frame:
    return Frame(Type.NOTED, request, struct.pack("<B", replaced))


def stage(request: int, returned: Sequence[Handle], spans: Sequence[tuple[Handle, int, int]]) -> Frame:
    parts = b"".join(handle.pack() for handle in returned)
    return Frame(Type.STAGE, request, struct.pack("<II", len(returned), len(spans)) + parts + _spans(spans))


def staged(request: int, part: Handle, segment: int, offset: int, length: int) -> Frame:
    return Frame(Type.STAGED, request, part.pack() + struct.pack("<IQQ", segment, offset, length))


def device_description(request: int, engine: str, epoch: int, physical: int, fingerprint: str) -> Frame:
    return Frame(Type.DEVICE_DESCRIPTION, request, _text(engine) + struct.pack("<QI", epoch, physical) + _text(fingerprint))


def check(request: int, handles: Sequence[Handle]) -> Frame:
    return Frame(Type.CHECK, request, struct.pack("<I", len(handles)) + b"".join(handle.pack() for handle in handles))


def checked(request: int) -> Frame:
    return Frame(Type.CHECKED, request)


def failure_of(frame: Frame) -> tuple[int, str]:
    """Code and message of a failure."""
    assert frame.type == Type.FAILURE, frame
    (code, length) = struct.unpack_from("<BH", frame.body)
    return code, frame.body[3 : 3 + length].decode()
