"""Hosts made of namespaces of Linux: this process moves into a network of its own, and others are plugged in by cables (veth pairs)."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support import Owner

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BORN = f'mount --bind "$1" {_BOOT_ID} && ip link set lo up && echo born && exec cat'  # which ends with its input
_SLOW = ("tbf", "rate", "200mbit", "burst", "64kb", "latency", "100ms")
_numbers = itertools.count(1)  # of cables


def run(*command: str) -> str:
    """Runs a command, which must succeed. Gives its output."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def leave_for_a_network_of_its_own() -> str:
    """Moves this thread, and those that it starts from now on, into a new network namespace. Gives why that is not allowed here, or "".

    To be called before anything has threads. The namespaces go with the last process in them.
    """
    if missing := [tool for tool in ("ip", "tc", "unshare", "nsenter") if shutil.which(tool) is None]:
        return f"there is no {' and no '.join(missing)}: apt-get install iproute2 util-linux"
    tried = subprocess.run([*_UNSHARE, "tc", "qdisc", "add", "dev", "lo", "root", *_SLOW], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"namespaces with slow networks need CAP_SYS_ADMIN, CAP_NET_ADMIN and the kernel's tbf ({tried.stderr.strip()})"
    assert _libc.unshare(_CLONE_NEWNET) == 0, ctypes.get_errno()
    run("ip", "link", "set", "lo", "up")
    return ""


@dataclass(frozen=True)
class Cable:
    """What joins this process's network with a host's, at its ends named by their addresses."""

    device: str
    here: str
    there: str
    here6: str
    there6: str


class Host:
    """Network, processes and boot id of its own, as another machine has them. It ends when ``close`` is called or this process ends."""

    def __init__(self, folder: Path, container: bool = False) -> None:
        """``folder``: for the boot id that it shows. ``container``: this machine's, as a container with a network of its own has it."""
        boot_id = folder / f"boot_id_{uuid.uuid4()}"
        boot_id.write_text(Path(_BOOT_ID).read_text() if container else f"{uuid.uuid4()}\n")
        self._holder = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _BORN, "sh", str(boot_id)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "born\n"
        (children,) = Path(f"/proc/{self._holder.pid}/task").glob("*/children")
        self._first = children.read_text().strip()
        self.enter = ("nsenter", "--target", self._first, "--net", "--mount", "--pid", "--")
        self._started: list[subprocess.Popen[bytes]] = []
        self.cables: list[Cable] = []
        self.plug()

    def run(self, *command: str) -> str:
        return run(*self.enter, *command)

    @contextmanager
    def slow(self, cable: Cable) -> Iterator[None]:
        """Inside of the block 25 MB a second come through this cable, so that a transfer can be met in its middle."""
        self.run("tc", "qdisc", "add", "dev", cable.device, "root", *_SLOW)
        try:
            yield
        finally:
            self.run("tc", "qdisc", "del", "dev", cable.device, "root")

    def set(self, name: str, value: str) -> None:
        """A setting of its network: a path below ``/proc/sys/net``."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/net/{name}")

    def plug(self) -> Cable:
        """One more cable, with an interface at each end."""
        number = next(_numbers)
        net = f"10.77.{number}"
        net6 = f"fd77:{number:x}:"
        cable = Cable(f"cable{number}", f"{net}.1", f"{net}.2", f"{net6}:1", f"{net6}:2")
        run("ip", "link", "add", "name", cable.device, "type", "veth", "peer", "name", cable.device, "netns", self._first)
        for begin, four, six in (((), cable.here, cable.here6), (self.enter, cable.there, cable.there6)):
            run(*begin, "ip", "addr", "add", f"{four}/24", "dev", cable.device)
            run(*begin, "ip", "link", "set", cable.device, "up")
            run(*begin, "ip", "-6", "addr", "add", f"{six}/64", "dev", cable.device, "nodad")
        self.cables.append(cable)
        return cable

    @contextmanager
    def cut(self, cable: Cable) -> Iterator[None]:
        """Inside of the block the cable carries nothing, and nobody is told."""
        self.run("ip", "link", "set", cable.device, "down")
        try:
            yield
        finally:
            self.run("ip", "link", "set", cable.device, "up")
            run("ip", "neigh", "flush", "dev", cable.device)  # nobody is still being looked for in vain

    def reject(self, address: str) -> None:
        """Answers what is sent to this address of its own as a firewall that rejects does: "administratively prohibited"."""
        self.set("ipv4/ip_forward", "1")  # else it says nothing
        self.run("ip", "rule", "add", "pref", "1", "lookup", "local")
        self.run("ip", "rule", "del", "pref", "0")
        self.run("ip", "rule", "add", "pref", "0", "to", address, "ipproto", "tcp", "prohibit")

    def start(self, *command: str) -> None:
        """A process there, which ends with the host."""
        self._started.append(subprocess.Popen([*self.enter, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def kill(self, pid: int) -> None:
        """Kills a process by the pid that it has there, and waits until it is dead: a signal alone lets it serve a last reader."""
        self.run("sh", "-c", f"kill -KILL {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.01; done")

    def close(self) -> None:
        """Kills all that runs there."""
        self._holder.communicate(timeout=30)
        for process in self._started:
            process.wait(30)


class FarOwner(Owner):
    """A process with an engine on another host. Its ``pid`` is the one that it has there."""

    def __init__(self, at: Host, **options: object) -> None:
        self.at = at
        super().__init__({"host": at.cables[0].there, **options}, prefix=at.enter)
        self._pid: int = self.get("__import__('os').getpid()")

    @property
    def pid(self) -> int:
        return self._pid

    def kill(self) -> None:
        self.at.kill(self.pid)
        self.process.wait()
