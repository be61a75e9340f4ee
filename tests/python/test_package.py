"""The package: what importing it costs, its names, and what this version says it cannot do."""

from __future__ import annotations

import importlib.metadata

import pytest

import ray_hixl
from support import run_python

NAMES_OF_THE_DESIGN = (
    "register HiXLTensorTransport runtime_env register_memory deregister_memory register_memory_pool empty set_stream check stats shutdown "
    "Options Engine HixlError ConnectError TransferTimeout PeerGone InvalidRegion ObjectFreed Cancelled Closed UnsupportedTensor "
    "OutOfMemory NotAvailable DeviceBusy"
)


def test_import_pulls_in_neither_torch_nor_ray() -> None:
    heavy = run_python(
        "import sys, ray_hixl\n"
        "ray_hixl.Engine().close(); ray_hixl.stats(); ray_hixl.shutdown(); dir(ray_hixl)\n"
        "print(sorted({'torch', 'ray', 'numpy', 'click', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    assert heavy == "[]\n"


def test_import_starts_no_thread_and_opens_no_socket() -> None:
    counted = run_python(
        "import os\n"
        "def sockets(): return sum(os.readlink('/proc/self/fd/' + fd).startswith('socket:') for fd in os.listdir('/proc/self/fd')"
        " if os.path.exists('/proc/self/fd/' + fd) or os.path.islink('/proc/self/fd/' + fd))\n"
        "before = sockets(); import ray_hixl\n"
        "print(len(os.listdir('/proc/self/task')), sockets() - before)"
    )
    assert counted == "1 0\n"


def test_names() -> None:
    assert set(NAMES_OF_THE_DESIGN.split()) <= set(ray_hixl.__all__) == set(dir(ray_hixl))
    for name in ray_hixl.__all__:
        if name not in ray_hixl._FROM_RAY:  # tests/ray has these: they import Ray
            assert getattr(ray_hixl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ray_hixl.nonsense


def test_everything_public_is_explained() -> None:
    for name in ("Engine", "Peer", "Transfer", "Fetch", "Options"):
        kind = getattr(ray_hixl, name)
        silent = [part for part, value in vars(kind).items() if not part.startswith("_") and callable(value) and not value.__doc__]
        assert kind.__doc__
        assert silent == []


def test_version() -> None:
    assert ray_hixl.__version__ == importlib.metadata.version("ray-hixl")


def test_writes_of_a_later_version_say_what_to_do(peer: ray_hixl.Peer) -> None:
    for write in (peer.write, peer.write_async):
        with pytest.raises(ray_hixl.NotAvailable, match=r"let the peer read it .* or publish an object"):
            write([], timeout=1.0)


def test_probe_names_every_transport() -> None:
    probes = {probe.transport: probe for probe in ray_hixl._core.probe_transports()}
    assert list(probes) == ["local", "shm", "cma", "stream", "hixl", "staged"]
    assert not probes["hixl"].usable
    assert all(probe.usable == (probe.reason == "") for probe in probes.values())
    assert probes["local"].usable
    assert probes["stream"].usable
