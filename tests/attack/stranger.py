"""Many strangers in one process, as nobody where it can: ``stranger.py <how> <count> <port, or x and the Unix name in hex> <seconds>``.

Says ``there`` once all have connected, and stays for so long.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import selectors
import socket
import sys
import time

from wire.handshake import HELLO_BYTES, prefix

MOST_SOCKETS = 1200


def opening(how: str, chance: random.Random) -> bytes:
    """What such a stranger says."""
    hello = prefix(1) + bytes([1, 0]) + chance.randbytes(HELLO_BYTES - 10)
    if how == "garble":
        return chance.randbytes(chance.randrange(1, 400))
    if how == "drip":
        return hello[:-1]
    return hello[: chance.randrange(HELLO_BYTES)] if how == "stall" else b""


class Strangers:
    """All of them, by turns: each connects, says its words as its kind does, and comes again when it was hung up on."""

    def __init__(self, how: str, count: int, address: tuple[str, int] | bytes) -> None:
        self._how = how
        self._left = count
        self._address = address
        self._chance = random.Random(count)
        self._selector = selectors.DefaultSelector()
        self._words: dict[socket.socket, bytes] = {}

    @property
    def all_came(self) -> bool:
        return self._left == 0

    def step(self) -> None:
        for _ in range(20):
            if self._left > 0 and len(self._words) < MOST_SOCKETS:
                self._come()
        for key, _ in self._selector.select(0.01):
            stranger = key.fileobj
            assert isinstance(stranger, socket.socket)
            self._hear(stranger)
        if self._how == "drip":
            for stranger in self._chance.sample(list(self._words), min(100, len(self._words))):
                self._say(stranger, 1)

    def _come(self) -> None:
        stranger = socket.socket(socket.AF_UNIX if isinstance(self._address, bytes) else socket.AF_INET)
        stranger.setblocking(False)
        try:
            with contextlib.suppress(BlockingIOError):
                stranger.connect(self._address)
        except OSError:
            stranger.close()
            return
        self._left -= 1
        self._words[stranger] = opening(self._how, self._chance)
        self._selector.register(stranger, selectors.EVENT_READ)
        if self._how in ("stall", "garble"):
            self._say(stranger, 400)

    def _say(self, stranger: socket.socket, count: int) -> None:
        words = self._words[stranger]
        try:
            self._words[stranger] = words[stranger.send(words[:count]) :] if words else words
        except BlockingIOError:
            pass
        except OSError:
            self._go(stranger)

    def _hear(self, stranger: socket.socket) -> None:
        try:
            if not stranger.recv(4096):
                self._go(stranger)
        except BlockingIOError:
            pass
        except OSError:
            self._go(stranger)

    def _go(self, stranger: socket.socket) -> None:
        if self._words.pop(stranger, None) is not None:
            self._selector.unregister(stranger)
            stranger.close()


def main() -> None:
    how, count, place, seconds = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    strangers = Strangers(how, int(count), ("127.0.0.1", int(place)) if place.isdigit() else b"\0" + bytes.fromhex(place[1:]))
    end = time.monotonic() + float(seconds)
    said = False
    while time.monotonic() < end:
        strangers.step()
        if strangers.all_came and not said:
            said = True
            print("there", flush=True)


if __name__ == "__main__":
    main()
