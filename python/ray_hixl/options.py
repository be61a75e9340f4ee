"""Options: every knob of an engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from ray_hixl import _core

_PREFIX = "RAY_HIXL_"


def _to_text(name: str, value: object) -> str:
    """A knob's value as the environment spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ("-" if name == "hixl_ports" else ",").join(str(part) for part in value)
    return str(value)


class Options:
    """Immutable. Each knob takes its argument, else the variable ``RAY_HIXL_<NAME>``, else its default.

    :param transports: allowed transports, in order of preference; default ``("local", "shm", "cma", "stream", "hixl")``. Take one out to
        forbid it; ``"hixl"`` moves NPU memory, the others the host's.
    :param host: IP address that the engine listens on and tells to peers; default ``"127.0.0.1"``, under Ray the node's IP.
    :param publish: ``"alias"``: ordinary memory is published by reference. ``"snapshot"`` is not available yet.
    :param fetch: ``"copy"``: fetched tensors are copies. ``"map"`` is not available yet.
    :param copy_threads: threads that copy, 0 to 64; default 0, which is one per core and at most 4. They sleep while nothing is copied.
    :param source_arena_bytes: source arena (``empty()``) kept for recycling, in bytes; default 1 GiB. Not a cap on live memory.
    :param landing_arena_bytes: the same for fetched tensors; default 1 GiB. Raise it above the bytes that a consumer holds at a time.
    :param connect_timeout_s: seconds for connecting, with the handshake; default 10.
    :param transfer_timeout_s: seconds for a transfer whose caller gave no timeout; default 30. Under Ray, Ray's own timeout rules.
    :param stall_timeout_s: seconds without a byte after which a stream transfer ends as ``PeerGone``; default 5.
    :param slab_bytes: the first slab on each NPU that is used, in bytes (steps of 2 MiB); default 64 MiB. Memory for received tensors,
        ``empty()`` and the copies of published tensors, taken at first use. Further slabs double what there is, and cost every connected
        peer a new connection: raise it to what a process holds at a time.
    :param slab_cap_bytes: bytes that the slabs of one NPU may take together; default 4 GiB. Beyond it: ``OutOfMemory``.
    :param hixl_ports: ports that HIXL listens on, two for each process and NPU, drawn at random; default ``(20000, 29999)``, as first and
        last or as text ``"20000-29999"``. Narrow it to what a firewall lets through.
    :param checksum: not available yet.
    :param tls: not available yet.
    :raises InvalidArgument: a value out of its range.
    :raises NotAvailable: a value that a later version will take.
    """

    def __init__(
        self,
        *,
        transports: Sequence[str] | None = None,
        host: str | None = None,
        publish: str | None = None,
        fetch: str | None = None,
        copy_threads: int | None = None,
        source_arena_bytes: int | None = None,
        landing_arena_bytes: int | None = None,
        slab_bytes: int | None = None,
        slab_cap_bytes: int | None = None,
        hixl_ports: str | tuple[int, int] | None = None,
        connect_timeout_s: float | None = None,
        transfer_timeout_s: float | None = None,
        stall_timeout_s: float | None = None,
        checksum: bool | None = None,
        tls: bool | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self" and value is not None}
        self._core = _core.Options.from_environment()
        for name, value in given.items():
            self._core.set(name, _to_text(name, value))
        self._chosen = {name for name in _NAMES if name in given or _PREFIX + name.upper() in os.environ}

    transports = property(lambda self: tuple(self._core.transports))
    host = property(lambda self: self._core.host)
    publish = property(lambda self: self._core.publish)
    fetch = property(lambda self: self._core.fetch)
    copy_threads = property(lambda self: self._core.copy_threads)
    source_arena_bytes = property(lambda self: self._core.source_arena_bytes)
    landing_arena_bytes = property(lambda self: self._core.landing_arena_bytes)
    slab_bytes = property(lambda self: self._core.slab_bytes)
    slab_cap_bytes = property(lambda self: self._core.slab_cap_bytes)
    hixl_ports = property(lambda self: self._core.hixl_ports)
    connect_timeout_s = property(lambda self: self._core.connect_timeout_s)
    transfer_timeout_s = property(lambda self: self._core.transfer_timeout_s)
    stall_timeout_s = property(lambda self: self._core.stall_timeout_s)

    @property
    def core(self) -> _core.Options:
        """What the engine takes."""
        return self._core

    def with_default_host(self, host: str) -> Options:
        """These options, with ``host`` unless an argument or the environment chose one."""
        return self if "host" in self._chosen else Options(**self._values(self._chosen), host=host)

    def to_environment(self) -> dict[str, str]:
        """Variables that give another process the same options: what was chosen, by argument or environment."""
        return {_PREFIX + name.upper(): text for name, text in self._values(self._chosen).items()}

    def _values(self, names: Iterable[str]) -> dict[str, Any]:
        """As text, which is what the core reads anyway."""
        return {name: _to_text(name, getattr(self._core, name)) for name in names}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self._values(_NAMES) == other._values(_NAMES)

    def __hash__(self) -> int:
        return hash(tuple(self._values(_NAMES).items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._values(self._chosen),)

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={text}' for name, text in self._values(_NAMES).items())})"


_NAMES = [name for name, value in vars(Options).items() if isinstance(value, property) and name != "core"]


def _restore(chosen: dict[str, Any]) -> Options:
    return Options(**chosen)
