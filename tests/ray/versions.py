"""What the Ray versions lack, named by the missing API."""

from __future__ import annotations

import importlib.util

import pytest
import ray

RAY = tuple(int(part) for part in ray.__version__.split(".")[:2])


def _without(condition: bool, what: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(condition, reason=f"Ray {ray.__version__} has no {what}")


driver_put = _without(RAY <= (2, 56), "ray.put(_tensor_transport=) in the driver")
target_for_ref = _without(not hasattr(ray.experimental, "set_target_for_ref"), "ray.experimental.set_target_for_ref")
target_device_for_ref = _without(not hasattr(ray.experimental, "set_target_device_for_ref"), "ray.experimental.set_target_device_for_ref")
get_with_timeout = _without(RAY <= (2, 55), "ray.get whose timeout counts while it receives")
death_of_a_maker = _without(RAY <= (2, 54), "word to a consumer that its object is never made: it waits out the timeout")
tries_of_their_own = _without(RAY <= (2, 55), "store that frees what came behind the failed tries of a task")
tensors_by_identity = _without(RAY <= (2, 54), "store keyed by tensor: its own asks each tensor for an address, which must differ")
put_without_tensors = _without(RAY <= (2, 54), "ray.put(_tensor_transport=) of a value without tensors")
keeps_metadata = _without(RAY <= (2, 56), "sure metadata: it loses some now and then, and a program has no retry as the tests have")

# What Ray's dashboard/optional_deps.py imports.
_AGENT = (
    "aiohttp",
    "aiohttp_cors",
    "grpc",
    "opencensus",
    "opentelemetry",
    "prometheus_client",
    "pydantic",
)
_missing = [name for name in _AGENT if importlib.util.find_spec(name) is None]
ray_agent = pytest.mark.skipif(bool(_missing), reason=f"Ray's agent, which Prometheus asks, needs {', '.join(_missing)}")
