"""A ``ray.get`` that fails gives its caller his memory back: nothing writes to the targets of any of its objects any more."""
# ruff: noqa: PT012  # what a get has begun belongs into the block that it ends

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import GetTimeoutError, ObjectFetchTimedOutError

import actors
import ray_hixl
from ray_hixl import begun
from ray_hixl._core import Begun
from ray_hixl.cli import doctor
from ray_hixl.cli.npu import work
from ray_hixl.ray import compat, requests
from ray_hixl.ray.errors import to_ray
from ray_hixl.ray.metadata import TransferMetadata
from ray_hixl.ray.records import FetchRecord
from ray_hixl.ray.requests import PendingFetch
from ray_hixl.ray.transport import HiXLTensorTransport
from versions import RAY, get_with_timeout, target_for_ref
from waiting import stop

LONG_S = 20.0  # nothing here takes as long but a wait
SIZE = 32 << 20  # the last of it is written long after the first


class FakeFetch:
    """A fetch that ends as it is told, so many seconds after it was cancelled."""

    def __init__(self, targets: bool = True, after_s: float = 0.0, error: str = "cancelled by its caller") -> None:
        self.writes_targets = targets
        self.after_s = after_s
        self.error = error
        self.cancelled_at: float | None = None
        self.interrupt: BaseException | None = None  # raised once by what waits
        self.succeeded = False
        self.core = None  # of a transfer

    @property
    def done(self) -> bool:
        return self.succeeded or (self.cancelled_at is not None and time.monotonic() >= self.cancelled_at + self.after_s)

    def cancel(self) -> None:
        self.cancelled_at = self.cancelled_at or time.monotonic()

    def wait(self, timeout: float | None = None) -> bool:
        end = time.monotonic() + (60 if timeout is None else timeout)
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            raise interrupt
        while not self.done:
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
        if not self.succeeded:
            raise ray_hixl.Cancelled(self.error)
        return True

    def stopped(self, seconds: float) -> bool:
        try:
            return self.wait(seconds)
        except ray_hixl.Cancelled as error:
            return "may still be written" not in str(error)

    def result(self) -> list[Any]:
        return ["tensors"]

    def bytes_by_transport(self) -> dict[str, int]:
        return {}

    def cancel_when_dropped(self) -> None:
        pass

    def end_with(self, block: Begun, name: str) -> None:
        block.add(name, self, self.writes_targets)


def request(name: str = "object", **how: Any) -> PendingFetch:
    """Begun in the ``ray.get`` that this thread is in."""
    with requests.this_get() as get:
        fetch: Any = FakeFetch(**how)
        fetch.end_with(get, name)
        return PendingFetch(name, fetch, get, FetchRecord(name, b"", TransferMetadata()))


def cancelled(*made: PendingFetch) -> list[bool]:
    return [one.fetch.cancelled_at is not None for one in made]  # type: ignore[attr-defined]


@pytest.fixture
def transport() -> HiXLTensorTransport:
    return HiXLTensorTransport()


def test_a_wait_that_times_out_ends_its_siblings(transport: HiXLTensorTransport) -> None:
    with pytest.raises(TimeoutError, match="object b did not arrive within 0 s"), requests.one_get():
        first, second, third = request("a"), request("b", after_s=0.1), request("c")
        first.fetch.succeeded = True  # type: ignore[attr-defined]
        assert transport.wait_fetch_complete(first, timeout=0) == ["tensors"]
        transport.wait_fetch_complete(second, timeout=0)
    assert cancelled(second, third) == [True, True]
    assert second.fetch.done


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GetTimeoutError, ValueError])
def test_nobody_needs_to_have_waited(error: type[BaseException]) -> None:
    with pytest.raises(error), requests.one_get():
        first, second = request(), request()
        raise error
    assert cancelled(first, second) == [True, True]


def test_a_request_of_no_get_is_alone(transport: HiXLTensorTransport) -> None:
    first, second = request(), request()
    with pytest.raises(TimeoutError):
        transport.wait_fetch_complete(first, timeout=0.01)
    assert cancelled(first, second) == [True, False]


def test_gets_inside_of_a_get_and_in_other_threads_go_on(transport: HiXLTensorTransport) -> None:
    others: list[PendingFetch] = []
    ready, end = threading.Event(), threading.Event()

    def elsewhere() -> None:
        with requests.one_get():
            others.append(request())
            ready.set()
            end.wait(10)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    ready.wait(10)
    with requests.one_get():
        outer = request()
        with pytest.raises(ValueError), requests.one_get():  # noqa: PT011
            inner = request()
            raise ValueError
        assert cancelled(outer, inner) == [False, True]
    end.set()
    thread.join()
    assert cancelled(outer, *others) == [False, False]


def test_new_memory_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begun, "STOP_S", LONG_S)
    begin = time.monotonic()
    with pytest.raises(GetTimeoutError), requests.one_get():
        slow = request(targets=False, after_s=60.0)
        raise GetTimeoutError
    assert time.monotonic() - begin < LONG_S / 2
    assert cancelled(slow) == [True]


class OwnText(Exception):
    """Makes its text as Ray's ObjectFetchTimedOutError does: not out of its arguments."""

    def __str__(self) -> str:
        return "timed out"


@pytest.mark.parametrize("error", [GetTimeoutError("ray.get timed out"), KeyboardInterrupt(), ValueError("misfit"), OwnText()])
def test_what_may_still_be_written_is_said(error: BaseException) -> None:
    begin = time.monotonic()
    with pytest.raises(type(error)) as caught, requests.one_get():
        request("stuck", after_s=60.0)
        request("given up", error="cancelled. A transport has not stopped yet: the target memory may still be written, and is kept")
        request("fine", after_s=0.1)
        raise error
    assert begun.STOP_S <= time.monotonic() - begin < LONG_S
    said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert caught.value is error
    assert "stuck, given up may still be written" in said
    assert "fine" not in said


def test_an_interrupt_meanwhile_waits_for_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), requests.one_get():
        slow = request(after_s=0.2)
        slow.fetch.interrupt = KeyboardInterrupt()  # type: ignore[attr-defined]
        raise ValueError
    assert slow.fetch.done


def test_the_function_of_ray_is_found_once() -> None:
    manager = getattr(ray.experimental, "RDTManager", None)
    if RAY < (2, 56):
        assert not hasattr(manager, compat._GETS)
        return
    wrapped = getattr(manager, compat._GETS)
    compat.around_every_get(requests.one_get)
    assert getattr(manager, compat._GETS) is wrapped


def new_manager(monkeypatch: pytest.MonkeyPatch, **methods: Any) -> Any:
    """Another RDTManager, of a Ray that fetches asynchronously."""
    made = type("RDTManager", (), methods)
    monkeypatch.setattr(ray.experimental, "RDTManager", made, raising=False)
    monkeypatch.setattr(compat.TensorTransportManager, "fetch_multiple_tensors", None, raising=False)
    return made


def plain(self: Any) -> bool:
    return Begun.current() is not None


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """As tracers do it."""

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        return function(*arguments)

    return traced


def test_decorated_functions_of_ray_are_found(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whether Ray's was decorated before us, or ours after."""
    manager = new_manager(monkeypatch, **{compat._GETS: decorated(plain)})
    compat.around_every_get(requests.one_get)
    assert getattr(manager(), compat._GETS)() is True
    outer = decorated(getattr(manager, compat._GETS))
    setattr(manager, compat._GETS, outer)
    compat.around_every_get(requests.one_get)
    assert getattr(manager, compat._GETS) is outer, "ours is inside of it"
    assert not caplog.text
    assert not compat.why_gets_are_bare()


async def asynchronous(self: Any) -> None: ...


def generator(self: Any) -> Iterator[None]:
    yield


UNKNOWN: dict[str, dict[str, Any]] = {
    "renamed": {"fetch_and_get_all": plain},
    "async": {compat._GETS: asynchronous},
    "generator": {compat._GETS: generator},
    "static": {compat._GETS: staticmethod(plain)},
    "no function": {compat._GETS: functools.partial(plain)},
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_unknown_functions_of_ray_are_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """They stay as they are, and nobody thinks that a failed get gives targets back."""
    manager = new_manager(monkeypatch, **UNKNOWN[kind])
    before = dict(vars(manager))
    compat.around_every_get(requests.one_get)
    assert dict(vars(manager)) == before
    assert "do not use the targets of set_target_for_ref after an error" in caplog.text
    assert compat.why_gets_are_bare() in caplog.text
    assert ("does not exist" if kind == "renamed" else "is no plain function") in caplog.text


def test_the_doctor_tells_unknown_functions_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = doctor._ray(ray.__version__)
    assert (finding.verdict, finding.name) == ("works", "ray.get")
    monkeypatch.setattr(doctor.Questions, "ask", lambda self, function: (getattr(work, function)(), ""))
    new_manager(monkeypatch)
    (finding,) = doctor._ray(ray.__version__)
    assert finding.verdict == "warning"
    assert "does not exist" in finding.found


@contextmanager
def standing_still(actor: Any) -> Iterator[None]:
    """Its process is stopped inside of the block."""
    pid = ray.get(actor.call.remote(os.getpid))
    try:
        stop(pid)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def new_object(source: Any, seed: int, target: torch.Tensor | None = None) -> ray.ObjectRef:
    reference = source.give.remote(actors.numbers, SIZE, seed)
    actors.created(reference)
    if target is not None:
        ray.experimental.set_target_for_ref(reference, [target])
    return reference


def nothing_under_way() -> bool:
    return bool(ray_hixl.stats()["transfers_in_flight"] == 0)


def interrupted_get(references: list[ray.ObjectRef]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in what they start in the background
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    ray.get(references)


FAILURES: dict[str, tuple[Callable[[list[ray.ObjectRef]], Any], type[BaseException]]] = {
    "a timeout": (lambda references: ray.get(references, timeout=0.1), GetTimeoutError),
    "a timeout of 0": (lambda references: ray.get(references, timeout=0), GetTimeoutError),
    "Ctrl-C": (interrupted_get, KeyboardInterrupt),
}


@target_for_ref
@get_with_timeout
@pytest.mark.parametrize("failure", FAILURES)
def test_targets_are_the_callers_again(source: Any, failure: str) -> None:
    get, error = FAILURES[failure]
    targets = [torch.zeros(SIZE, dtype=torch.uint8) for _ in range(3)]
    references = [new_object(source, seed, target) for seed, target in enumerate(targets)]
    ray.get(new_object(source, 9))  # the link stands
    with standing_still(source), pytest.raises(error) as caught:
        get(references)
    for target in targets:
        target.fill_(11)
    actors.eventually(nothing_under_way)
    ray.get(source.call.remote(os.getpid))  # it runs again
    assert all(bool((target == 11).all()) for target in targets)
    assert "may still be written" not in str(caught.value)


def get_in_vain(*references: ray.ObjectRef, timeout: float | None = None) -> BaseException:
    with pytest.raises(TimeoutError) as caught:
        ray.get(list(references), timeout=timeout)
    return caught.value


RAYS_TIMEOUTS = [GetTimeoutError("ray.get timed out after 1 s"), ObjectFetchTimedOutError("aa", b"", "")]


@pytest.mark.parametrize("rays", RAYS_TIMEOUTS, ids=lambda error: type(error).__name__)
def test_what_is_meant_by_rays_timeout(rays: BaseException) -> None:
    """The error of ours in place of which this ``ray.get`` raised it, and not one that its caller is in the middle of handling."""
    ours, others = to_ray(ray_hixl.TransferTimeout("the peer hangs")), to_ray(ray_hixl.TransferTimeout("another get"))

    def fail(error: BaseException | None) -> None:
        """What Ray does with what a wait raised."""
        request("stuck", error="the target memory may still be written, and is kept")
        request("stuck, too", error="the target memory may still be written, and is kept")
        if error is None:
            raise rays
        try:
            raise error
        except TimeoutError:
            raise rays  # noqa: B904

    for raised, meant in ((ours, ours), (TimeoutError("its caller's"), rays), (None, rays)):
        try:
            raise others
        except ray_hixl.TransferTimeout:
            with pytest.raises(type(meant)) as caught, requests.one_get():
                fail(raised)
        assert caught.value is meant
        assert "stuck, stuck, too may still be written" in " ".join([str(meant), *getattr(meant, "__notes__", [])])


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_our_own_deadline_is_told_as_what_it_is(source: Any, timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would say that the object is lost, or that the caller's 30 seconds are over."""
    pid = ray.get(source.call.remote(os.getpid))
    reference = new_object(source, 1)
    ray.get(new_object(source, 9))
    monkeypatch.setattr(TransferMetadata, "budget_s", lambda self: 0.3)
    with standing_still(source):
        error = get_in_vain(reference, timeout=timeout)
    assert isinstance(error, ray_hixl.TransferTimeout)
    assert isinstance(error, compat.RayDirectTransportError)
    assert f"process {pid} " in str(error)
    assert "the deadline passed" in str(error)


@get_with_timeout
def test_a_timeout_of_the_caller_is_rays(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the caller is in the middle of handling one of ours."""
    reference = new_object(source, 1)
    ray.get(new_object(source, 9))
    with standing_still(source):
        assert isinstance(get_in_vain(reference, timeout=0.1), GetTimeoutError)
        with monkeypatch.context() as patched:
            patched.setattr(TransferMetadata, "budget_s", lambda self: 0.3)
            try:
                ray.get(reference)
            except ray_hixl.TransferTimeout:
                patched.undo()
                assert type(get_in_vain(reference, timeout=0)) is GetTimeoutError


@target_for_ref
@get_with_timeout
def test_a_misfit_gives_the_targets_before_it_back(source: Any) -> None:
    target, short = torch.zeros(SIZE, dtype=torch.uint8), torch.zeros(7, dtype=torch.uint8)
    fine, misfit = new_object(source, 1, target), new_object(source, 2, short)
    with standing_still(source), pytest.raises(ValueError, match="does not match"):
        ray.get([fine, misfit])
    target.fill_(11)
    actors.eventually(nothing_under_way)
    ray.get(source.call.remote(os.getpid))
    assert bool((target == 11).all())


@get_with_timeout
def test_without_targets_a_timeout_returns_at_once(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begun, "STOP_S", LONG_S)
    references = [new_object(source, seed) for seed in range(3)]
    ray.get(new_object(source, 9))
    with standing_still(source):
        begin = time.monotonic()
        with pytest.raises(GetTimeoutError):
            ray.get(references, timeout=0.1)
        assert time.monotonic() - begin < LONG_S / 2
    actors.eventually(nothing_under_way)


@target_for_ref
@get_with_timeout
def test_a_get_after_a_failed_one_receives(source: Any) -> None:
    target = torch.zeros(SIZE, dtype=torch.uint8)
    reference = new_object(source, 3, target)
    ray.get(new_object(source, 9))
    with standing_still(source), pytest.raises(GetTimeoutError):
        ray.get(reference, timeout=0.1)
    assert torch.equal(ray.get(reference), actors.numbers(SIZE, 3))
    assert torch.equal(target, actors.numbers(SIZE, 3))
