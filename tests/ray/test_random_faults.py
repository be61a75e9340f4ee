"""Kills, pauses and aborts at random moments of a handoff: the right bytes or one clear error, in time, and nothing is left.

``--fault-rounds`` and ``--fault-seed`` ask for more of them and for others. A round is its seed and number: what is done can be
played again, the moment of a real cluster only nearly.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import ray
import torch

import actors
import ray_hixl
from ray_hixl.ray.metadata import TransferMetadata
from waiting import stop

MIB = 1 << 20
BEYOND_S = 30.0  # the deadline is 9 s; who waits so long was forgotten, on however slow a machine

GONE = (ray_hixl.PeerGone, ray.exceptions.ActorDiedError, ray.exceptions.ObjectLostError)
ENDS: dict[tuple[str, str], tuple[type[BaseException], ...]] = {  # beside the right bytes
    ("kill", "source"): GONE,
    ("kill", "receiver"): (ray.exceptions.ActorDiedError,),
    ("pause", "source"): (),
    ("pause", "receiver"): (),
    ("abort", "receiver"): (ray_hixl.Cancelled,),
}


@dataclass
class Round:
    """What happens to whom, and when."""

    seed: int
    fault: str
    victim: str
    transport: str
    path: str
    nbytes: int
    after_s: float
    pause_s: float

    @classmethod
    def draw(cls, seed: int, number: int) -> Round:
        dice = random.Random(f"{seed} {number}")
        fault, victim = dice.choice(list(ENDS))
        transport, path = dice.choice(["cma", "stream"]), dice.choice(["argument", "borrowed"])
        nbytes = 8 * dice.randint(1, 8 * MIB)
        return cls(dice.randint(0, 1 << 30), fault, victim, transport, path, nbytes, dice.uniform(0, 0.06), dice.uniform(0, 0.5))

    def content(self) -> torch.Tensor:
        return torch.arange(self.seed, self.seed + self.nbytes // 8)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(metafunc.config.getoption("--fault-rounds")))


@pytest.fixture(scope="module")
def witnesses(cluster: Any) -> Any:
    """Actors that live through all rounds, by the transport that they read and are read by: they have to be clean after each."""
    made = {
        name: actors.Peer.options(runtime_env={"env_vars": {"RAY_HIXL_TRANSPORTS": name}}, num_cpus=0, max_concurrency=3).remote()
        for name in ("cma", "stream")
    }
    yield made
    for witness in made.values():
        ray.kill(witness)


def is_right(value: Any, played: Round) -> bool:
    return torch.equal(ray.get(value[0]) if isinstance(value, list) else value, played.content())


def abort_all() -> None:
    """As Ray aborts a transfer."""
    from ray_hixl.ray.compat import _util  # Ray's singletons

    transport = _util.get_tensor_transport_manager("HIXL")
    for transfer_id in list(transport._transfers):
        transport.abort_transport("object", TransferMetadata(transfer_id))


def strike(played: Round, victim: Any, pid: int) -> None:
    time.sleep(played.after_s)
    if played.fault == "kill":
        actors.kill(pid)
    elif played.fault == "abort":
        ray.get(victim.call.remote(abort_all))
    else:
        try:
            stop(pid)
            time.sleep(played.pause_s)
        finally:
            os.kill(pid, signal.SIGCONT)


def end_of(call: ray.ObjectRef) -> bool | BaseException:
    try:
        return bool(ray.get(call, timeout=BEYOND_S))
    except ray.exceptions.GetTimeoutError:
        raise
    except Exception as error:
        return getattr(error, "cause", None) or error


def left() -> dict[str, int]:
    """What a process has of others."""
    stats = ray_hixl.stats()
    kinds = ("links", "sessions", "quarantined_bytes")
    descriptors = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{name}")]
    return {
        **actors.left(),
        **{kind: stats[kind] for kind in kinds},
        "blocks": stats["landing"]["live_blocks"],
        "pidfds": sum("[pidfd]" in target for target in descriptors),
    }


def is_clean(witness: Any) -> bool:
    """It has nothing left but the session of this process, which reads from it in some rounds."""
    found = ray.get(witness.call.remote(left))
    return found.pop("sessions") <= 1 and found.pop("pidfds") <= 1 and not any(found.values())


def test_round(peers: list[Any], witnesses: dict[str, Any], fresh: Callable[..., Any], number: int, request: pytest.FixtureRequest) -> None:
    played = Round.draw(request.config.getoption("--fault-seed"), number)
    witness, doomed = witnesses[played.transport], fresh(num_cpus=0, max_concurrency=3)
    source, receiver = (doomed, witness) if played.victim == "source" else (witness, doomed)
    victim_pid = ray.get(doomed.call.remote(os.getpid))
    ray.get([each.call.remote(actors.left) for each in (source, receiver)])  # both run

    if played.path == "argument":
        made = source.give.remote(played.content)
        actors.created(made)
        handed: Any = made
    else:
        handed = ray.get(source.call.remote(actors.put_all, lambda: [played.content()]))
    call = receiver.call.remote(is_right, handed, played)
    strike(played, doomed, victim_pid)
    end = end_of(call)
    assert end is True or isinstance(end, ENDS[played.fault, played.victim]), (played, end)
    if played.fault != "kill":
        assert end_of(receiver.call.remote(is_right, handed, played)) is True, (played, "again")
    elif played.victim == "receiver":
        assert is_right(handed if isinstance(handed, list) else ray.get(handed), played), (played, "others are served")

    handed = made = call = end = None
    ray.kill(doomed)
    actors.eventually(lambda: is_clean(witness), 20)
