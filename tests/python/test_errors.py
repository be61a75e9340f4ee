"""The exceptions: their codes, their bases, and that they survive pickling."""

from __future__ import annotations

import pickle

import pytest

import ray_hixl
from ray_hixl.errors import from_code

CODES = {
    ray_hixl.ConnectError: "connect_error",
    ray_hixl.TransferTimeout: "transfer_timeout",
    ray_hixl.PeerGone: "peer_gone",
    ray_hixl.InvalidRegion: "invalid_region",
    ray_hixl.ObjectFreed: "object_freed",
    ray_hixl.Cancelled: "cancelled",
    ray_hixl.Closed: "closed",
    ray_hixl.UnsupportedTensor: "unsupported_tensor",
    ray_hixl.OutOfMemory: "out_of_memory",
    ray_hixl.NotAvailable: "not_available",
    ray_hixl.InvalidArgument: "invalid_argument",
    ray_hixl.DeviceBusy: "device_busy",
}
BUILTIN = {
    ray_hixl.TransferTimeout: TimeoutError,
    ray_hixl.DeviceBusy: TimeoutError,
    ray_hixl.OutOfMemory: MemoryError,
    ray_hixl.InvalidArgument: ValueError,
}


def test_these_are_all() -> None:
    assert set(ray_hixl.HixlError.__subclasses__()) >= set(CODES)
    public = {getattr(ray_hixl, name) for name in ray_hixl.__all__ if name not in ray_hixl._FROM_RAY}
    found = {one for one in public if isinstance(one, type) and issubclass(one, ray_hixl.HixlError)}
    assert found == {*CODES, ray_hixl.HixlError}


@pytest.mark.parametrize("error", CODES)
def test_code_and_bases(error: type[ray_hixl.HixlError]) -> None:
    made = error("what went wrong")
    assert str(made) == "what went wrong"
    assert made.code == error.code == CODES[error]
    assert isinstance(made, ray_hixl.HixlError)
    assert isinstance(made, BUILTIN.get(error, Exception))
    assert error.__doc__


@pytest.mark.parametrize("error", [*CODES, ray_hixl.HixlError])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(error: type[ray_hixl.HixlError], protocol: int) -> None:
    made = error("peer 7: gone", code="something_newer")
    back = pickle.loads(pickle.dumps(made, protocol))
    assert (type(back), str(back), back.code) == (error, "peer 7: gone", "something_newer")


@pytest.mark.parametrize(("error", "code"), CODES.items())
def test_from_code(error: type[ray_hixl.HixlError], code: str) -> None:
    made = from_code(code, "why")
    assert (type(made), str(made), made.code) == (error, "why", code)


def test_from_code_of_a_defect_or_a_newer_peer() -> None:
    for code in ("internal", "not_invented_yet"):
        made = from_code(code, "why")
        assert (type(made), made.code) == (ray_hixl.HixlError, code)


@pytest.mark.parametrize(("error", "code"), CODES.items())
def test_code_travels_inside_an_object(error: type[ray_hixl.HixlError], code: str, engine: ray_hixl.Engine) -> None:
    """What C++ makes of a code comes back as the class of that code."""
    with pytest.raises(error, match="the reason") as caught:
        engine.fetch(engine.publish_error([b"abc"], error("the reason"))).result()
    assert (type(caught.value), caught.value.code) == (error, code)
