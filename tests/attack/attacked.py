"""An attacked process and what must stay true of it: its memory, descriptors and threads, and the service of an honest client."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wire
from support import Owner, eventually, pattern
from wire import EngineDescriptor, Hello, Purpose, RegionDescriptor, Transport
from yardstick import scaled

POOL_THREADS = 4  # of an engine, started when there is the first work for them
SOON_S = 1.0  # in which an honest client connects and reads, whatever others do
DATA = pattern(64 * 1024)
_MIB = 1 << 20
_LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))"
_HONEST = """
import threading, time
def visits(descriptor, region, data):
    times = []
    while not stopped.is_set():
        begin = time.monotonic()
        with ray_hixl.Engine(ray_hixl.Options(transports=["stream"])) as engine:
            peer = engine.connect(descriptor, timeout=60)
            into = bytearray(len(data))
            peer.read([(engine.register(into), 0, peer.region(region), 0, len(data))])
            times.append(time.monotonic() - begin)
            assert into == data
        time.sleep(0.02)
    return times
def begin(*given):
    global visitor
    stopped.clear()
    seen.clear()
    def run():
        try: seen.append(visits(*given))
        except BaseException as error: seen.append(error)
    visitor = threading.Thread(target=run)
    visitor.start()
def end():
    stopped.set()
    visitor.join()
    return seen[0]
stopped, seen = threading.Event(), []
"""


class Honest:
    """A client in another process that connects and reads, again and again, by a new engine each time."""

    def __init__(self) -> None:
        self._process = Owner(prepare=_HONEST)

    def begin(self, descriptor: bytes, region: bytes) -> None:
        self._process.run("begin(*given)", given=(descriptor, region, DATA))

    def end(self) -> list[float]:
        """How long each visit took. Raises what a visit raised."""
        ended = self._process.get("end()")
        if isinstance(ended, BaseException):
            raise ended
        return list(ended)

    def close(self) -> None:
        self._process.close()


@dataclass
class Look:
    """What a process holds at one moment, or at most during some time."""

    rss: int
    descriptors: int
    threads: int


@dataclass
class Visits:
    """Of the honest client, once they are over."""

    count: int = 0


def look_at(pid: int) -> Look:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Look(pages * 4096, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


class Attacked:
    """An owner with a region of DATA, in a process of its own that may have 1024 descriptors."""

    def __init__(self, honest: Honest, options: dict[str, Any] | None = None, most_descriptors: int = 1024) -> None:
        self.owner = Owner(options=options, prepare=_LIMITED.format(most_descriptors))
        self._honest = honest
        self.owner.run("region = engine.register(given); engine.register(bytearray(1)).close()", given=DATA)  # what is started once, is
        self.raw = self.owner.descriptor
        self.descriptor = EngineDescriptor.unpack(self.raw)
        self.region_raw: bytes = self.owner.get("region.descriptor")
        self.region = RegionDescriptor.unpack(self.region_raw)

    @property
    def pid(self) -> int:
        return self.owner.pid

    def stats(self, name: str) -> Any:
        return self.owner.get(f"engine.stats()[{name!r}]")

    def connect(self, over_unix: bool) -> wire.Connection:
        return wire.connect(self.descriptor, over_unix)

    def hello(self, purpose: int = Purpose.CONTROL, transport: int = Transport.LOCAL) -> Hello:
        return Hello(self.descriptor.incarnation, purpose, transport)

    def session(self, over_unix: bool) -> wire.Connection:
        """An authenticated control connection whose welcome was taken."""
        made = self.connect(over_unix)
        wire.authenticate(made, self.descriptor, self.hello())
        welcome = made.frame()
        assert welcome.type == wire.Type.WELCOME
        for fd in welcome.fds:
            os.close(fd)
        return made

    def data(self, over_unix: bool) -> wire.Connection:
        """An authenticated data connection of the stream transport."""
        made = self.connect(over_unix)
        wire.authenticate(made, self.descriptor, self.hello(Purpose.DATA, Transport.STREAM))
        return made

    @contextmanager
    def unharmed(self, rss_mib: int = 32, descriptors: int = 64) -> Iterator[Visits]:
        """Inside of the block the process takes no more than that on top of what it had, and the honest client is served soon.

        Afterwards, once the attackers are gone, descriptors and threads are what they were. ``descriptors`` counts those of the honest
        client, too.
        """
        before, most = look_at(self.pid), look_at(self.pid)
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                now = look_at(self.pid)
                most.rss = max(most.rss, now.rss)
                most.descriptors = max(most.descriptors, now.descriptors)
                most.threads = max(most.threads, now.threads)
                time.sleep(0.01)

        watcher = threading.Thread(target=watch)
        visits = Visits()
        self._honest.begin(self.raw, self.region_raw)
        watcher.start()
        try:
            yield visits
        finally:
            over.set()
            watcher.join()
            times = self._honest.end()
        visits.count = len(times)
        assert times, "the honest client was not served at all"
        assert max(times) < scaled(SOON_S), f"the honest client waited {max(times):.2f} s"
        assert most.rss - before.rss <= rss_mib * _MIB, f"memory grew by {(most.rss - before.rss) >> 20} MiB"
        assert most.descriptors - before.descriptors <= descriptors
        assert most.threads - before.threads <= POOL_THREADS
        eventually(lambda: look_at(self.pid).descriptors <= before.descriptors, 10)
        eventually(lambda: look_at(self.pid).threads <= before.threads + POOL_THREADS, 10)
        eventually(lambda: self.stats("sessions") == 0, 10)

    def close(self) -> None:
        self.owner.close()
