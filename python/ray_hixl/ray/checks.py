"""``check``: why would an actor not receive? Asked of its handle, of its process, and of the way between the two processes."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from ray_hixl import arguments, process
from ray_hixl.findings import MISSING, REFUSED, WARNING, WORKS, Finding
from ray_hixl.ray import compat
from ray_hixl.ray.answers import answer
from ray_hixl.ray.transport import NAME
from ray_hixl.versions import versions

if TYPE_CHECKING:
    from collections.abc import Iterator


_HANDLE, _PROCESS, _PATH = "the actor's handle", "the actor's process", "from this process to the actor"
_COMPARED = ("ray-hixl", "ray", "torch", "python")
_PAUSE_S = 0.05  # until the actor is asked again whether it has connected
_SWITCH_ON = "ray.init(runtime_env=ray_hixl.runtime_env()), or ray_hixl.register() in the module that defines the actor"


def check(actor: Any, timeout: float = 5.0) -> list[Finding]:
    """Why an actor would not receive objects of the transport, or wait for them for long: in seconds, instead of at Ray's timeout of 60.

    Looks at the handle, asks the actor's process what it has, and has it connect to this process's engine, as if it fetched from here. Both
    engines are started by that, if they were not. Nothing else is changed, and nothing is published.

    :param timeout: seconds for all of it; the actor has half of them to connect, at most its option ``connect_timeout_s``, and goes on with
        its work meanwhile. One that is busy answers all the same if it was made with ``enable_tensor_transport=True``, as long as it does
        not receive.
    :returns: findings; ``ray_hixl.findings.MISSING`` ones, if any, are why nothing would arrive. Each says what to do.
    :raises TypeError: that is no handle of an actor.
    """
    if not isinstance(actor, ActorHandle):
        raise TypeError(f"check takes a handle of an actor; this is {arguments.described(actor)}")
    told, silence = _ask(actor, arguments.seconds(timeout, 5.0))
    findings = [_look_at_flag(actor, told), _look_at_order(actor)]
    if told is None:
        return [*findings, silence]
    return findings + list(_compare(told)) + list(_describe_path(told["path"]))


def _look_at_flag(actor: Any, told: dict[str, Any] | None) -> Finding:
    """Whether the actor has a thread that receives. The handle of its maker tells; one that another job looked up by name may not."""
    name = "enable_tensor_transport"
    if _has_flag(actor):
        return Finding(_HANDLE, name, WORKS, "set: the actor has a thread of its own that receives")
    if not actor._ray_original_handle and told is not None and _answered_apart(actor, told):
        found = "this handle does not show it (one that was looked up by name does not), and the actor runs calls apart from each other"
        return Finding(_HANDLE, name, WARNING, found, "hand the handle of whoever made the actor on: calls with tensors need it")
    found = (
        "not set, or the handle was looked up by name and does not show it: without it several objects at a time, or one while the actor "
        "is busy, wait for Ray's fetch timeout (60 s)"
    )
    return Finding(_HANDLE, name, MISSING, found, "@ray.remote(enable_tensor_transport=True) on the actor's class")


def _answered_apart(actor: Any, told: dict[str, Any]) -> bool:
    """Does the answer show that thread? A threaded actor's never does: all of its calls run beside each other."""
    if told["loops"]:
        return compat.RECEIVING_GROUP in told["loops"]
    return told["apart"] and not actor._ray_allow_out_of_order_execution


def _look_at_order(actor: Any) -> Finding:
    name = "order of calls"
    if not actor._ray_allow_out_of_order_execution:
        return Finding(_HANDLE, name, WORKS, "in order, one at a time")
    if process.options().ray_wait_for_source:
        found = "out of order (async or threaded): a call that hands objects to it waits here until they are made (ray_wait_for_source)"
        return Finding(_HANDLE, name, WORKS, found)
    found = (
        "out of order (async or threaded), and ray_wait_for_source is off: an async actor that is handed objects before they are made may "
        "block for ever"
    )
    return Finding(_HANDLE, name, WARNING, found, "leave ray_wait_for_source on, or ray.wait for references before they are passed")


def _has_flag(actor: Any) -> bool:
    return bool(getattr(actor, "_ray_enable_tensor_transport", False))


def _ask(actor: Any, timeout: float) -> tuple[dict[str, Any] | None, Finding]:
    """What the actor's process said until it knew all, or time was up; else why it said nothing."""
    begin, told = time.monotonic(), None
    # Where there is no such group, a call of it can end the actor.
    call = actor.__ray_call__.options(concurrency_group=compat.RECEIVING_GROUP) if _has_flag(actor) else actor.__ray_call__
    question = (uuid.uuid4().hex, process.engine().descriptor, timeout / 2)
    try:
        while told is None or told["path"] is None:
            asked = call.remote(answer, *question)
            told = ray.get(asked, timeout=max(0.0, begin + timeout - time.monotonic()))
            time.sleep(_PAUSE_S)
        return told, _silent("")
    except GetTimeoutError:
        ray.cancel(asked)  # else it would be asked later, when nobody waits for it
        what = "it receives" if _has_flag(actor) else "it is busy (without the flag it cannot answer meanwhile)"
        found = f"no answer within {time.monotonic() - begin:.1f} s: {what}, has not started yet, or hangs"
        return told, _silent(found, "try again with a longer timeout; ray stack shows what it does")
    except RayActorError as error:
        return None, _silent(f"the actor is not there any more: {error}", "make it again")
    except RayTaskError as error:
        return None, _not_asked(error.cause if error.cause is not None else error)
    except Exception as error:
        return None, _not_asked(error)


def _silent(found: str, remedy: str = "") -> Finding:
    return Finding(_PROCESS, "answer", MISSING, found, remedy)


def _not_asked(error: BaseException) -> Finding:
    said = f"{type(error).__name__}: {error}"
    if "No module named 'ray_hixl" in said:
        found = "ray_hixl is not installed in the environment of the actor's process"
        return Finding(_PROCESS, "ray_hixl", MISSING, found, "pip install 'ray-hixl[ray]' on its node, or into its runtime_env")
    return _silent(f"the question failed there: {said}", "the actor's log on its node has the rest")


def _compare(told: dict[str, Any]) -> Iterator[Finding]:
    if told["ours"]:
        yield Finding(_PROCESS, "registered", WORKS, "the transport is known there")
    elif told["holder"] is None:
        # The first object that arrives there brings it along; who gives objects needs it before.
        found = "the transport is not known there: methods of the actor that give tensors fail (Unsupported tensor transport)"
        yield Finding(_PROCESS, "registered", WARNING, found, _SWITCH_ON)
    else:
        found = f"the name {NAME} is held there by {told['holder']}, another package's class"
        yield Finding(_PROCESS, "registered", MISSING, found, "uninstall one of the two packages, or register only one of them")
    here = versions()
    for name in _COMPARED:
        there = told["versions"][name]
        if there == here[name]:
            yield Finding(_PROCESS, name, WORKS, there)
        else:
            yield Finding(_PROCESS, name, WARNING, f"{there} there, {here[name]} here", "use the same version on all nodes")
    if told["bare"]:
        yield Finding(_PROCESS, "ray.get", WARNING, told["bare"])


def _describe_path(path: dict[str, Any] | None) -> Iterator[Finding]:
    if path is None:
        found = "when time was up the actor had answered, but not yet whether it reaches this process"
        yield Finding(_PATH, "connection", MISSING, found, "try again with a longer timeout")
        return
    if "error" in path:
        host = process.options().host
        remedy = f"this process's engine listens on {host}: can the actor's node reach it? Options.host chooses an address"
        yield Finding(_PATH, "connection", MISSING, path["error"], remedy)
        return
    if path["transport"] is None:
        yield Finding(_PATH, "host memory", MISSING, "no transport can move it", "let both sides have a common one: Options.transports")
    else:
        yield Finding(_PATH, "host memory", WORKS, f"by {path['transport']}; the actor's engine listens on {path['host']}")
    for name, reason in path["refused"].items():
        yield Finding(_PATH, name, REFUSED, reason)
