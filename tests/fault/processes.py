"""Processes that play owners and readers: started once, used by one case after another, replaced when one was killed."""

from __future__ import annotations

import signal
from collections import deque
from pathlib import Path
from typing import Any

from support import ROOT, Other, eventually

_HERE = str(Path(__file__).parent)
NOBODY = 65534
_PREFIX = {
    "no_pid_namespace": ("unshare", "--pid", "--fork", "--kill-child", "--"),
    "no_net_namespace": ("unshare", "--net", "--"),
}
FAKE_CANN = ROOT / "build" / "dev" / "fake_cann"
_FAKE_CANN = {
    "LD_LIBRARY_PATH": f"{FAKE_CANN}/lib:{FAKE_CANN}/lib/hixl",
    "ASCEND_HOME_PATH": f"{FAKE_CANN}/home",
    "ASCEND_OPP_PATH": f"{FAKE_CANN}/home/opp",
    "RAY_HIXL_ALLOW_FAKE_CANN": "1",
    "FAKE_CANN_STRICT": "1",
}
_SETTLE_S = 10.0


class Process(Other):
    """One process with a `side.Side`. ``flavour``: how it differs, by the fault's name."""

    def __init__(self, flavour: str = "") -> None:
        super().__init__(_FAKE_CANN if flavour == "npu" else None, _PREFIX.get(flavour, ()))
        self.flavour = flavour
        self._owes = False  # an answer
        self.over = False  # killed, or asked to exit
        self.run("import sys; sys.path.insert(0, here); from side import Side; side = Side()", here=_HERE)
        self._pid = self.process.pid
        if flavour == "no_pid_namespace":
            (children,) = Path(f"/proc/{self._pid}/task").glob("*/children")
            self._pid = int(children.read_text())
        if flavour in ("other_uid", "nobody"):
            self.do("become", NOBODY)
        for _ in range(2 if flavour == "npu" else 1):
            self.do("open", "first", {})
            if flavour == "npu":
                self.do("offer", "first", "first", "npu", (4096,), 1)
            self.do("forget")
        self.idle = self.usage()

    @property
    def pid(self) -> int:
        return self._pid

    def begin(self, method: str, *arguments: Any) -> None:
        """Like ``do``, for what may stop or end the process before it answers."""
        self.start(f"side.{method}(*arguments)", arguments=arguments)
        self._owes = True

    def do(self, method: str, *arguments: Any) -> Any:
        if self._owes:
            self._owes = False
            self.finish()
        return self.get(f"side.{method}(*arguments)", arguments=arguments)

    def usage(self) -> tuple[int, int]:
        """Descriptors and threads that it has."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir())), len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def clear(self) -> None:
        """Ends what a case left; nothing of it may stay."""
        self.do("forget")
        try:
            eventually(lambda: self.usage() == self.idle, _SETTLE_S)
        except AssertionError:
            files = sorted(str(each.readlink()) for each in Path(f"/proc/{self.pid}/fd").iterdir())
            threads = [(each / "comm").read_text().strip() for each in Path(f"/proc/{self.pid}/task").iterdir()]
            raise AssertionError(f"{self.usage()} descriptors and threads instead of {self.idle}: {files} {threads}") from None

    def exit(self, seconds: float) -> None:
        """Ends it as a program ends, with whatever is under way. It must not hang, crash or say anything."""
        self.over = True
        self._connection.close()
        _, said = self.process.communicate(timeout=seconds)
        assert (self.process.returncode, said) == (0, ""), f"code {self.process.returncode}, said: {said}"

    def kill(self) -> None:
        self.over = True
        super().kill()

    def discard(self) -> None:
        """For one that cannot be trusted any more."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._connection.close()
        assert self.process.stderr is not None
        self.process.stderr.close()


class Fleet:
    """Idle processes by flavour."""

    def __init__(self) -> None:
        self._idle: dict[str, deque[Process]] = {}
        self.bystander = Process()
        self.bystander.do("open", "bystander", {})

    def take(self, flavour: str = "") -> Process:
        waiting = self._idle.setdefault(flavour, deque())
        return waiting.popleft() if waiting else Process(flavour)

    def give_back(self, process: Process) -> None:
        self._idle[process.flavour].append(process)

    def new_bystander(self) -> None:
        self.bystander.discard()
        self.bystander = Process()
        self.bystander.do("open", "bystander", {})

    def close(self) -> None:
        for waiting in self._idle.values():
            for process in waiting:
                process.close()
        self.bystander.close()
