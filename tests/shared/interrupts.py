"""Interrupts (Ctrl-C) at every point where Python may raise one: on entering a function, after a call, and on going back in a loop."""

from __future__ import annotations

import contextlib
import dis
import gc
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import ray_hixl

_FOLDER = str(Path(ray_hixl.__file__).parent)
_FILES = (_FOLDER, contextlib.__file__)  # where interrupts come
_CHECKED = ("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "FOR_ITER")  # how the instructions begin, after which Python looks for signals


@cache
def _instructions(code: CodeType) -> dict[int, tuple[str, int]]:
    """By offset: the name, and where what is raised there is handled (-1: nowhere)."""
    handlers: Any = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    return {
        each.offset: (each.opname, next((entry.target for entry in handlers if entry.start <= each.offset < entry.end), -1))
        for each in dis.get_instructions(code)
    }


class _Interrupter:
    """A trace function that raises KeyboardInterrupt at one point, counted from 0."""

    def __init__(self, point: int) -> None:
        self.left = point
        self.before: dict[FrameType, tuple[str, int]] = {}  # the instruction that was carried out last

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_FILES):
            return None
        if event == "call":
            frame.f_trace_opcodes = True
            self._pass()
        elif event == "opcode":
            now = _instructions(frame.f_code).get(frame.f_lasti, ("", -1))
            name, handler = self.before.get(frame, ("", -1))
            if name.startswith(_CHECKED) and handler == now[1]:  # else it would be handled elsewhere than Python's, which is the call's
                self._pass()
            self.before[frame] = now
        elif event == "exception":  # Python does not look for signals between a call that raises and what handles that
            self.before.pop(frame, None)
        return self

    def _pass(self) -> None:
        self.left -= 1
        if self.left == -1:
            raise KeyboardInterrupt


def at_every_point(run: Callable[[], object]) -> Iterator[BaseException | None]:
    """Calls ``run`` again and again, each time interrupted at the next point in ray_hixl; gives how each call ended."""
    point = 0
    while True:
        interrupter = _Interrupter(point)
        ended: BaseException | None = None
        gc.disable()  # a destructor would swallow it
        sys.settrace(interrupter)
        try:
            run()
        except BaseException as error:
            ended = error
        finally:
            sys.settrace(None)
            gc.enable()
        if interrupter.left >= 0:
            break
        yield ended
        point += 1
    assert point > 3, "there were points to interrupt at"
