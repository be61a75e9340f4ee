"""What ``ray-hixl bringup`` does with Ray, in a helper: that process is the driver of a cluster of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray

from ray_hixl.cli.npu import ray_actors

_SHAPE = (8, 1 << 20)
_TIMEOUT_S = 120.0
_held: dict[str, Any] = {}


def start(devices: int) -> list[str]:
    """A cluster on this machine, with a source and a consumer on an NPU each."""
    ray.init(num_cpus=4, resources={"NPU": devices}, include_dashboard=False, log_to_driver=False, configure_logging=False)
    made = {"resources": {"NPU": 1 if devices > 1 else 0.5}, "num_cpus": 1}
    _held["source"] = ray_actors.Source.options(max_restarts=1, max_task_retries=0, **made).remote()  # type: ignore[attr-defined]
    _held["consumer"] = ray_actors.Consumer.options(**made).remote()  # type: ignore[attr-defined]
    begin = time.perf_counter()
    ray.get([_held["source"].pid.remote(), _held["consumer"].fetched.remote()], timeout=_TIMEOUT_S)
    return [f"Ray {ray.__version__}, two actors started in {time.perf_counter() - begin:.1f} s"]


def hand_over(seed: int) -> list[str]:
    """A task's tensors as another actor's argument."""
    begin = time.perf_counter()
    reference = _held["source"].make.remote(*_SHAPE, seed)
    wrong = ray.get(_held["consumer"].check.remote(reference, *_SHAPE, seed), timeout=_TIMEOUT_S)
    if wrong:
        raise AssertionError(wrong)
    moved = {name: count for name, count in ray.get(_held["consumer"].fetched.remote(), timeout=_TIMEOUT_S).items() if count}
    if set(moved) != {"hixl"}:
        raise AssertionError(f"the bytes did not travel by hixl: {moved}")
    return [
        f"{_SHAPE[0]} tensors of {_SHAPE[1] >> 20} MiB, actor to actor, compared: {(time.perf_counter() - begin) * 1e3:.0f} ms, {moved}"
    ]


def get(seed: int) -> list[str]:
    """By ``ray.get``, in the driver."""
    wrong = ray_actors.judge(ray.get(_held["source"].make.remote(*_SHAPE, seed), timeout=_TIMEOUT_S), *_SHAPE, seed)
    if wrong:
        raise AssertionError(wrong)
    return ["ray.get in the driver gives the same tensors, on its NPU"]


def kill_source(seed: int) -> list[str]:
    """The source dies with an object published: who fetches it then gets an error, in time."""
    reference = _held["source"].make.remote(*_SHAPE, seed)
    ray.wait([reference], timeout=_TIMEOUT_S, fetch_local=False)
    process = Path(f"/proc/{ray.get(_held['source'].pid.remote(), timeout=_TIMEOUT_S)}")
    ray.kill(_held["source"], no_restart=False)
    while process.exists():
        time.sleep(0.05)
    begin = time.perf_counter()
    try:
        ray.get(_held["consumer"].check.remote(reference, *_SHAPE, seed), timeout=_TIMEOUT_S)
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[-1]
        return [f"after {time.perf_counter() - begin:.1f} s: {type(error).__name__}: {said}"]
    raise AssertionError("an object of a killed actor was fetched all the same")


def use_restarted(seed: int) -> list[str]:
    """Ray has restarted the source meanwhile."""
    end = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return [f"the source was restarted as process {ray.get(_held['source'].pid.remote(), timeout=_TIMEOUT_S)}", *hand_over(seed)]
        except ray.exceptions.ActorUnavailableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def stop() -> None:
    ray.shutdown()
