"""Making the transport known to Ray: in this process, and in every worker of a job."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from ray_hixl import arguments, process
from ray_hixl.options import Options
from ray_hixl.ray import compat, metadata
from ray_hixl.ray.transport import NAME, HiXLTensorTransport

logger = logging.getLogger(__name__)

_HOOK = "ray_hixl.register"
_HOOK_KEY = "worker_process_setup_hook"
_DEVICES = ("npu", "cpu")


def register(devices: Iterable[str] = _DEVICES, options: Options | None = None) -> None:
    """Registers the transport ``hixl`` in this process. Idempotent.

    Three other things are changed in Ray: importing ``ray_hixl.ray`` wraps the function of Ray that receives for a ``ray.get``, so that one
    that fails ends its fetches, the one that begins what a call of an actor hands over, so that an async or threaded actor gets it in the
    right order, and the one that ``ray.shutdown`` calls, so that what was published is freed (docs/ray.md). Other transports take no
    notice of them.

    Call it in the module that defines the actors, so that every worker that imports the module has it, also after a restart of the
    actor; or give Ray the job-level hook (``ray_hixl.runtime_env``).

    :param devices: device types that Ray lets through, of ``"npu"`` and ``"cpu"``.
    :param options: for this process's engine. Others than an earlier call's are an error.
    :raises ValueError: an unknown device.
    :raises RuntimeError: another package's class holds the name.
    """
    if isinstance(devices, Options):
        raise TypeError("options are given by name: register(options=...)")
    chosen = [devices] if isinstance(devices, str) else list(devices)
    unknown = [device for device in chosen if device not in _DEVICES]
    if unknown or not chosen:
        raise ValueError(f"devices takes some of {_DEVICES}, not {chosen}")
    if options is not None:
        process.configure(options)
    _claim_name(chosen)


def _claim_name(devices: list[str]) -> None:
    try:
        if compat.registered_class(NAME) is None:
            compat.register_transport(NAME, devices, HiXLTensorTransport)
    except ValueError:  # another thread came first: an object's arrival, or Ray, which brings transports along
        if compat.registered_class(NAME) is None:
            raise
    holder: Any = compat.registered_class(NAME)
    if holder is not HiXLTensorTransport:
        raise RuntimeError(
            f"the transport name {NAME!r} is held by {holder.__module__}.{holder.__qualname__}; ray_hixl cannot register its own "
            "ray_hixl.HiXLTensorTransport beside it: uninstall one of the two packages, or register only one of them"
        )


def _register_on_arrival() -> None:
    """``register()`` where an object's metadata arrives: in plain tasks, borrowers, actors that were restarted. Never raises, since the
    thread may be one of Ray's own, which would end the process.
    """
    try:
        _claim_name(list(_DEVICES))
    except Exception as error:
        _warn(str(error))


@functools.cache  # not for each object
def _warn(why: str) -> None:
    logger.warning("an object of the transport hixl arrived, and this process cannot receive it: %s", why)


def register_hixl_tensor_transport(devices: Iterable[str] = _DEVICES) -> None:
    """``register(devices)`` under the kind of name that ray-ascend's transports are registered by (docs/ray_ascend.md).

    For who calls those in the driver and in each actor's ``__init__``; there, after ``ray.init`` or before, it does the same. It starts
    nothing: the engine of a process starts when the first tensor is published or fetched.

    :param devices: device types that Ray lets through, of ``"npu"`` and ``"cpu"``.
    :raises ValueError: an unknown device.
    :raises RuntimeError: another package's class holds the name ``hixl``.
    """
    register(devices)


def runtime_env(options: Options | None = None, base: Mapping[str, Any] | None = None, actor: bool = False) -> dict[str, Any]:
    """A Ray ``runtime_env`` that registers the transport in every worker of a job, or of one actor, with ``options``.

    :param base: merged in; its ``env_vars`` stay, except those of ``options``.
    :param actor: for an actor's own ``runtime_env`` (``Actor.options(runtime_env=...)``) rather than that of ``ray.init``. A hook that
        somebody else gave the job does not run in that actor then.
    :raises ValueError: ``base`` has a setup hook of its own. Call ``ray_hixl.register()`` inside that hook instead.
    """
    merged = dict(base or {})
    if merged.get(_HOOK_KEY) not in (None, _HOOK):
        raise ValueError(f"base already has a {_HOOK_KEY}: {merged[_HOOK_KEY]!r}. Call ray_hixl.register() inside that hook instead")
    variables = dict(merged.get("env_vars") or {})
    if (given := arguments.options(options)) is not None:
        variables.update(given.to_environment())
    if actor:
        variables[compat.HOOK_VARIABLE] = _HOOK  # Ray takes the hook itself of ray.init's environment only
    else:
        merged[_HOOK_KEY] = _HOOK
    if variables:
        merged["env_vars"] = variables
    return merged


metadata.on_arrival(_register_on_arrival)
