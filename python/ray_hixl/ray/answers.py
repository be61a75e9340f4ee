"""What an actor's process answers where ``check`` asks it."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ray_hixl import process
from ray_hixl.errors import HixlError
from ray_hixl.ray import compat
from ray_hixl.ray.transport import NAME, HiXLTensorTransport
from ray_hixl.versions import versions

_KEPT = 64  # questions whose end is remembered: more than are asked at a time

_lock = threading.Lock()
_connecting: dict[str, Future[dict[str, Any]]] = {}  # by question


def answer(actor: Any, question: str, descriptor: bytes, timeout: float) -> dict[str, Any]:
    """At once, since the thread may be the one that receives, or run an event loop: what the process has, and what is known of its way to
    the engine of that descriptor. The first time another thread begins to connect; until ``"path"`` is there, ask again.

    :param actor: its instance.
    :param question: names this one among others.
    :param timeout: seconds to connect, at most the option ``connect_timeout_s``.
    """
    holder = compat.registered_class(NAME)
    path = _begin_to_connect(question, descriptor, timeout)
    return {
        "versions": versions(),
        "holder": None if holder is None else f"{holder.__module__}.{holder.__qualname__}",
        "ours": holder is HiXLTensorTransport,
        "bare": compat.why_gets_are_bare(),
        "apart": threading.current_thread() is not threading.main_thread(),
        "loops": compat.event_loops(),
        "path": path.result() if path.done() else None,
    }


def _begin_to_connect(question: str, descriptor: bytes, timeout: float) -> Future[dict[str, Any]]:
    with _lock:
        if question not in _connecting:
            thread = ThreadPoolExecutor(1, "hixl-check")
            _connecting[question] = thread.submit(_connect, descriptor, timeout)
            thread.shutdown(wait=False)
        if len(_connecting) > _KEPT:
            del _connecting[next(iter(_connecting))]
        return _connecting[question]


def _connect(descriptor: bytes, timeout: float) -> dict[str, Any]:
    try:
        own = process.engine()
        peer = own.connect(descriptor, min(timeout, own.options.connect_timeout_s))
        try:
            path = peer.path()
            return {"host": own.options.host, "transport": path.transport, "refused": dict(path.refused)}
        finally:
            peer.close()
    except HixlError as error:
        return {"error": f"{type(error).__name__}: {error}"}
