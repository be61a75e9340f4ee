"""What the engine is measured against: one-thread memcpy, process_vm_readv and a blocking socket, with nothing of ours in between."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable, Sequence

from ray_hixl.bench.shapes import MIB

_libc = ctypes.CDLL(None, use_errno=True)
_MOST_IOVECS = 512


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_libc.process_vm_readv.restype = ctypes.c_ssize_t
_libc.process_vm_readv.argtypes = [
    ctypes.c_int,
    ctypes.POINTER(_Iovec),
    ctypes.c_ulong,
    ctypes.POINTER(_Iovec),
    ctypes.c_ulong,
    ctypes.c_ulong,
]


def memcpy(to: Sequence[int], from_: Sequence[int], length: int) -> Callable[[], None]:
    """Copies block after block with libc's memcpy in this thread."""

    def run() -> None:
        for target, source in zip(to, from_, strict=True):
            ctypes.memmove(target, source, length)

    return run


def process_vm_readv(pid: int, to: Sequence[int], from_: Sequence[int], length: int) -> Callable[[], None]:
    """Reads blocks of another process, 512 a call, in this thread."""
    calls = []
    for start in range(0, len(to), _MOST_IOVECS):
        here = [_Iovec(address, length) for address in to[start : start + _MOST_IOVECS]]
        there = [_Iovec(address, length) for address in from_[start : start + _MOST_IOVECS]]
        calls.append(((_Iovec * len(here))(*here), (_Iovec * len(there))(*there), len(here)))

    def read_all(here: ctypes.Array[_Iovec], there: ctypes.Array[_Iovec], count: int) -> None:
        wanted, done = count * length, 0
        while done < wanted:  # one call moves at most 2 GiB
            got = _libc.process_vm_readv(pid, here, count, there, count, 0)
            if got < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            done += got

    def run() -> None:
        for here, there, count in calls:
            read_all(here, there, count)

    return run


def serve_socket(connection: socket.socket, view: memoryview, offsets: Sequence[int], length: int) -> None:
    """The other side of ``blocking_socket``: for every byte asked, all blocks back to back. Ends when the reader hangs up."""
    while connection.recv(1):
        for offset in offsets:
            connection.sendall(view[offset : offset + length])


def blocking_socket(connection: socket.socket, into: memoryview, offsets: Sequence[int], length: int) -> Callable[[], None]:
    """Asks with one byte and receives every block in place, at most 1 MiB a call."""

    def run() -> None:
        connection.sendall(b"x")
        for offset in offsets:
            got = 0
            while got < length:
                got += connection.recv_into(into[offset + got : offset + length], min(length - got, MIB))

    return run
