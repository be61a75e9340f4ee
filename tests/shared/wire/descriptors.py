"""Descriptors of engines and regions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

_ENGINE = struct.Struct("<4sH16s32s16sQQI")
_REGION = struct.Struct("<4sH16s20sQBIB")


@dataclass(frozen=True)
class Handle:
    """Names a region or an object of its engine."""

    slot: int
    generation: int
    key: int

    def pack(self) -> bytes:
        return struct.pack("<IQQ", self.slot, self.generation, self.key)

    @classmethod
    def unpack(cls, data: bytes) -> Handle:
        return cls(*struct.unpack("<IQQ", data))

    @classmethod
    def of_object(cls, metadata: bytes) -> Handle:
        """The one that an object's metadata carries."""
        assert metadata[:4] == b"RHXO"
        return cls.unpack(metadata[6:26])


@dataclass(frozen=True)
class EngineDescriptor:
    incarnation: bytes
    key: bytes
    boot_id: bytes
    pid_namespace: int
    network_namespace: int
    pid: int
    unix_name: bytes
    host: str
    port: int

    @classmethod
    def unpack(cls, data: bytes) -> EngineDescriptor:
        magic, _, incarnation, key, boot_id, pid_namespace, network_namespace, pid = _ENGINE.unpack_from(data)
        assert magic == b"RHXE"
        texts = []
        rest = data[_ENGINE.size :]
        for _ in range(2):
            (length,) = struct.unpack_from("<H", rest)
            texts.append(rest[2 : 2 + length])
            rest = rest[2 + length :]
        (port,) = struct.unpack("<H", rest)
        return cls(incarnation, key, boot_id, pid_namespace, network_namespace, pid, texts[0], texts[1].decode(), port)

    def pack(self) -> bytes:
        fixed = _ENGINE.pack(b"RHXE", 1, self.incarnation, self.key, self.boot_id, self.pid_namespace, self.network_namespace, self.pid)
        texts = b"".join(struct.pack("<H", len(text)) + text for text in (self.unix_name, self.host.encode()))
        return fixed + texts + struct.pack("<H", self.port)

    def tcp_only(self) -> EngineDescriptor:
        return replace(self, unix_name=b"")


@dataclass(frozen=True)
class RegionDescriptor:
    owner: bytes
    handle: Handle
    length: int
    kind: int = 0
    device: int = 0
    flags: int = 0

    @classmethod
    def unpack(cls, data: bytes) -> RegionDescriptor:
        magic, _, owner, handle, length, kind, device, flags = _REGION.unpack(data)
        assert magic == b"RHXR"
        return cls(owner, Handle.unpack(handle), length, kind, device, flags)

    def pack(self) -> bytes:
        return _REGION.pack(b"RHXR", 1, self.owner, self.handle.pack(), self.length, self.kind, self.device, self.flags)


def _varint(number: int) -> bytes:
    made = b""
    while number >= 0x80:
        made += bytes([number & 0x7F | 0x80])
        number >>= 7
    return made + bytes([number])


def object_metadata(handle: Handle, engine: bytes, type_name: bytes, item_bytes: int, shape: Sequence[int]) -> bytes:
    """Of an object of one tensor in host memory."""
    types = _varint(1) + struct.pack("<H", len(type_name)) + type_name + _varint(item_bytes)
    layouts = _varint(1) + _varint(0) + _varint(len(shape)) + b"".join(_varint(each) for each in shape)
    runs = _varint(1) + _varint(0) + _varint(1)
    head = b"RHXO" + struct.pack("<H", 1) + handle.pack() + struct.pack("<I", len(engine)) + engine + bytes(3)
    return head + types + layouts + runs + _varint(0)
