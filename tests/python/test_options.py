"""Options: argument before environment before default; what each knob refuses; travelling to other processes."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

import ray_hixl
from ray_hixl import InvalidArgument, NotAvailable, Options, _core
from support import run_python

# knob: default, text in the environment, what that means, another value as argument
KNOBS: dict[str, tuple[Any, str, Any, Any]] = {
    "transports": (("local", "shm", "cma", "stream", "hixl", "staged"), "cma,stream", ("cma", "stream"), ("local", "stream")),
    "host": ("127.0.0.1", "127.0.0.2", "127.0.0.2", "::1"),
    "publish": ("alias", "snapshot", "snapshot", "snapshot"),
    "fetch": ("copy", "copy", "copy", "copy"),
    "copy_threads": (0, "3", 3, 5),
    "source_arena_bytes": (1 << 30, "4096", 4096, 1 << 40),
    "landing_arena_bytes": (1 << 30, "0", 0, 123),
    "slab_bytes": (64 << 20, "1", 1, 1 << 30),
    "slab_cap_bytes": (4 << 30, "0", 0, 1 << 40),
    "landing_device": ("", "npu:3", "npu:3", "npu:0"),
    "hixl_ports": ((20000, 29999), "1024-1026", (1024, 1026), (20000, 20001)),
    "hixl_protocol_desc": (("auto",), "hccs:device,roce:device", ("hccs:device", "roce:device"), ("roce:host",)),
    "hixl_local_comm_res": ("auto", '{"version": "1.3"}', '{"version": "1.3"}', "/etc/comm_res.json"),
    "hixl_max_active_channels": (16, "1", 1, 128),
    "hixl_max_links": (64, "1", 1, 4096),
    "hixl_traffic_class": ("auto", "132", 132, 0),
    "hixl_service_level": ("auto", "7", 7, 0),
    "connect_timeout_s": (10.0, "2.5", 2.5, 1),
    "transfer_timeout_s": (30.0, "1e2", 100.0, 86400),
    "publish_timeout_s": (300.0, "60", 60.0, 0.5),
    "stall_timeout_s": (5.0, "0.25", 0.25, 7.5),
    "idle_timeout_s": (300.0, "60", 60.0, 0.5),
    "ray_wait_for_source": (True, "false", False, True),
}

BAD: list[tuple[str, Any]] = [
    ("transports", ()),
    ("transports", ("shm", "shm")),
    ("transports", ("pigeon",)),
    ("transports", ("", "shm")),
    ("host", ""),
    ("host", "localhost"),
    ("host", "0.0.0.0"),
    ("host", "::"),
    ("host", "127.0.0.1:80"),
    ("host", "300.1.1.1"),
    ("publish", "twice"),
    ("publish", ""),
    ("fetch", "never"),
    ("copy_threads", -1),
    ("copy_threads", 65),
    ("copy_threads", 1.5),
    ("copy_threads", "two"),
    ("copy_threads", 1 << 70),
    ("source_arena_bytes", -1),
    ("source_arena_bytes", "1GiB"),
    ("source_arena_bytes", 1 << 64),
    ("landing_arena_bytes", -5),
    ("landing_arena_bytes", ""),
    ("slab_bytes", 0),
    ("slab_bytes", "64MiB"),
    ("slab_cap_bytes", -1),
    ("landing_device", "npu:-1"),
    ("landing_device", "npu:1 "),
    ("landing_device", "npu:70000"),
    ("landing_device", "cuda:0"),
    ("hixl_ports", "20000"),
    ("hixl_ports", ""),
    ("hixl_ports", (20000,)),
    ("hixl_ports", (20001, 20000)),
    ("hixl_ports", (20000, 65536)),
    ("hixl_ports", (20000, 20001, 20002)),
    ("hixl_protocol_desc", ("roce",)),
    ("hixl_protocol_desc", ()),
    ("hixl_local_comm_res", "{}"),
    ("hixl_local_comm_res", "relative.json"),
    ("hixl_max_active_channels", 0),
    ("hixl_max_links", 0),
    ("hixl_traffic_class", 131),
    ("hixl_service_level", 8),
    ("hixl_service_level", -1),
    ("connect_timeout_s", 0),
    ("connect_timeout_s", -1),
    ("connect_timeout_s", "soon"),
    ("transfer_timeout_s", 86401),
    ("transfer_timeout_s", float("nan")),
    ("transfer_timeout_s", float("inf")),
    ("stall_timeout_s", 0.0),
    ("stall_timeout_s", "1 "),
    ("idle_timeout_s", 0),
    ("ray_wait_for_source", "no"),
    ("ray_wait_for_source", 1),
]

LATER: list[tuple[str, Any]] = [
    ("fetch", "map"),
    ("checksum", True),
    ("tls", True),
]


def test_every_knob_is_known_here() -> None:
    later = {"checksum", "tls"}
    assert {info[0] for info in _core.option_infos()} == set(KNOBS) | later


def test_the_table_says_all_of_every_knob() -> None:
    for name, argument, shown, default, takes, text in _core.option_infos():
        assert all((argument, shown, takes, text)), name
        assert default or name == "landing_device"
        assert Options(**{name: default}) == Options(), "its default, as the environment spells it, is its default"
        assert getattr(Options, name).__doc__.split()[:3] == text.split()[:3]


def test_ports_as_text() -> None:
    assert Options(hixl_ports="20000-20001") == Options(hixl_ports=(20000, 20001))
    assert Options(hixl_ports=(20000, 20001)).to_environment() == {"RAY_HIXL_HIXL_PORTS": "20000-20001"}


@pytest.mark.parametrize("knob", KNOBS)
def test_argument_before_environment_before_default(knob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default, text, meant, argument = KNOBS[knob]
    assert getattr(Options(), knob) == default
    monkeypatch.setenv("RAY_HIXL_" + knob.upper(), text)
    assert getattr(Options(), knob) == meant
    assert getattr(Options(**{knob: argument}), knob) == argument
    others = [name for name in KNOBS if name != knob]
    assert all(getattr(Options(**{knob: argument}), name) == KNOBS[name][0] for name in others)


@pytest.mark.parametrize(("knob", "value"), BAD)
def test_bad_argument_names_the_knob(knob: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"option {knob} takes ") as caught:
        Options(**{knob: value})
    assert type(caught.value) is InvalidArgument
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("knob", "value"), [(knob, value) for knob, value in BAD if isinstance(value, str)])
def test_bad_environment_names_the_variable(knob: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = "RAY_HIXL_" + knob.upper()
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidArgument, match=f"{variable}: option {knob} takes "):
        Options()


def test_environment_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_HIXL_HOST", os.fsdecode(b"h\xffst"))
    with pytest.raises(InvalidArgument, match=r"option host takes .* not 'h\ufffdst'"):
        Options()


@pytest.mark.parametrize(("knob", "value"), LATER)
def test_what_a_later_version_takes(knob: str, value: Any) -> None:
    with pytest.raises(NotAvailable, match=f"option {knob} is not available in this version: ") as caught:
        Options(**{knob: value})
    assert type(caught.value) is NotAvailable


def test_switches_that_are_off_are_fine() -> None:
    assert Options(checksum=False, tls=False) == Options()


def test_unknown_knob() -> None:
    for name, match in (
        ("colour", "^there is no option 'colour': docs/options.md lists them$"),
        ("hots", r"^there is no option 'hots': did you mean 'host'\?$"),
    ):
        for made in (Options, ray_hixl.Engine):
            with pytest.raises(TypeError, match=match):
                made(**{name: "red"})
        with pytest.raises(AttributeError, match=match):
            setattr(Options(), name, "red")
    with pytest.raises(TypeError, match=r"^options are given by name: Options\(name=value, ...\)$"):
        Options("cma")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^options go in as one: Engine\(Options\(host='::1'\)\)$"):
        ray_hixl.Engine(host="::1")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="no option 'colour'; there are transports, host"):
        _core.Options().set("colour", "red")


def test_immutable() -> None:
    options = Options()
    with pytest.raises(AttributeError, match=r"options are fixed once they are made: make new ones, Options\(host=...\)"):
        options.host = "::1"


def test_equality_and_hash() -> None:
    same = Options(copy_threads=2, transports=["shm", "stream"]), Options(transports=("shm", "stream"), copy_threads=2)
    assert same[0] == same[1]
    assert hash(same[0]) == hash(same[1])
    assert Options(copy_threads=0) == Options()  # chosen or not, the value counts
    assert Options(copy_threads=1) != Options()
    assert Options() != "options"


def test_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(transports=("cma",), stall_timeout_s=1.25, host="::1")
    assert pickle.loads(pickle.dumps(options)) == options
    packed = pickle.dumps(options)
    monkeypatch.setenv("RAY_HIXL_STALL_TIMEOUT_S", "9")  # what was chosen wins over the environment of the reader
    assert pickle.loads(packed).stall_timeout_s == 1.25


def test_to_environment_has_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Options().to_environment() == {}
    monkeypatch.setenv("RAY_HIXL_STALL_TIMEOUT_S", "7.5")
    chosen = Options(transports=("shm", "stream"), transfer_timeout_s=12.5, source_arena_bytes=1 << 33).to_environment()
    assert chosen == {
        "RAY_HIXL_STALL_TIMEOUT_S": "7.5",
        "RAY_HIXL_TRANSPORTS": "shm,stream",
        "RAY_HIXL_TRANSFER_TIMEOUT_S": "12.5",
        "RAY_HIXL_SOURCE_ARENA_BYTES": str(1 << 33),
    }


def test_to_environment_has_a_host_only_by_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment it is the address of this node, and the other process may be on another."""
    monkeypatch.setenv("RAY_HIXL_HOST", "192.0.2.1")
    monkeypatch.setenv("RAY_HIXL_COPY_THREADS", "3")
    here = Options()
    assert (here.host, here.to_environment()) == ("192.0.2.1", {"RAY_HIXL_COPY_THREADS": "3"})
    assert Options(host="192.0.2.2").to_environment()["RAY_HIXL_HOST"] == "192.0.2.2"
    for options in (here, Options(host="192.0.2.2")):
        packed = pickle.loads(pickle.dumps(options))
        assert (packed.host, packed.to_environment()) == (options.host, options.to_environment())


def test_to_environment_gives_another_process_the_same() -> None:
    options = Options(transports=("stream",), copy_threads=7, connect_timeout_s=0.1)
    said = run_python("import ray_hixl; print(ray_hixl.Options())", environment=options.to_environment())
    assert said.strip() == repr(options)


def test_with_default_host() -> None:
    assert Options().with_default_host("10.1.2.3").host == "10.1.2.3"
    assert Options(host="127.0.0.1").with_default_host("10.1.2.3").host == "127.0.0.1"
    assert Options(copy_threads=3).with_default_host("10.1.2.3").copy_threads == 3


def test_host_that_is_not_of_this_machine() -> None:
    with pytest.raises(InvalidArgument, match=r"option host: cannot bind to 192\.0\.2\.1: no interface here has this address"):
        ray_hixl.Engine(Options(host="192.0.2.1"))


def test_engine_keeps_its_options() -> None:
    options = Options(copy_threads=1)
    with ray_hixl.Engine(options) as engine:
        assert engine.options is options
