"""Before an object is handed to an actor that runs calls out of order, it has to be made.

Ray 2.54 to 2.60 hand an object of a transport over by a call of their own, which receives, beside the one that takes the object. Where the
object is not made yet, both wait in the process that submits them, and leave it in no order. An async actor that comes to the second one
first waits for the tensors on the thread that would have to begin the first: for ever, or for the fetch timeout, and so does all else that
the actor has to do. Of an object that is made, Ray sends the receiving call first.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray

from ray_hixl import process
from ray_hixl.ray import compat

_MADE_S = 0.1  # metadata of an object that was made follow so soon; those of a task that failed never


def wait_until_made(manager: Any, actor: Any, arguments: tuple[Any, ...], *, name: str) -> None:
    """Before the handoffs of one call begin, in the process and thread that submit it: waits until all objects are made.

    Not for actors that run calls in order; not in the thread of an event loop, which may have to run before anything is made; not for what
    this actor itself is to make; no longer than Ray's own fetch timeout. ``name`` is the transport's.
    """
    if actor._ray_allow_out_of_order_execution:
        awaited = list(dict.fromkeys(argument for argument in arguments if compat.is_to_come(manager, argument, name)))
        if awaited and asyncio._get_running_loop() is None and process.options().ray_wait_for_source:
            _wait(manager, awaited, compat.fetch_timeout_s())


def _wait(manager: Any, references: list[Any], timeout: float) -> None:
    end = time.monotonic() + timeout
    made, _ = ray.wait(references, num_returns=len(references), timeout=timeout, fetch_local=False)
    end = min(end, time.monotonic() + _MADE_S)
    for reference in made:
        manager.wait_for_tensor_transport_metadata(reference.hex(), max(0.0, end - time.monotonic()))
