"""``ray-hixl check``: ``ray_hixl.check`` for the actors of a running cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from rich.console import Console
from rich.text import Text

import ray_hixl
from ray_hixl.cli.cluster import join
from ray_hixl.cli.findings import show
from ray_hixl.findings import WARNING, Finding, count, is_ready
from ray_hixl.ray import compat


def run(address: str, timeout: float, everyone: bool, as_json: bool) -> int:
    """Prints the findings, actor by actor; 0 if nothing is missing. ``everyone``: also those that do not use hixl."""
    ray_hixl.register()
    place = join(address, "check")
    console = Console()
    report: dict[str, Any] = {"cluster": place, "actors": {}, "others": [], "unnamed": 0}
    ready = True
    actors = _named_actors()
    looks = {} if everyone else _look_at_all(actors, timeout)
    for path, actor in actors.items():
        with console.status("" if as_json else path):
            findings = _check(actor, looks.get(path), timeout)
        if findings is None:
            report["others"].append(path)
            continue
        report["actors"][path] = [finding.to_json() for finding in findings]
        ready = ready and is_ready(findings)
        if not as_json:
            show(console, findings, f"{path}: ")
            console.print(count(findings))
    report["unnamed"] = compat.unnamed_actors()
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        if report["others"]:
            console.print(
                Text(f"Not asked, since hixl is not in use there: {', '.join(report['others'])}. --all asks them, which loads it.")
            )
        if report["unnamed"]:
            console.print(
                f"{report['unnamed']} more have no name, so that Ray gives no handle here: ray_hixl.check(actor) in their own job."
            )
        console.print(f"The cluster is the one at {place}.")
    return 0 if ready else 1


def _named_actors() -> dict[str, Any]:
    """Handles by namespace and name; None for an actor that has ended since Ray listed it."""
    found: dict[str, Any] = {}
    for named in ray.util.list_named_actors(all_namespaces=True):
        path = f"{named['namespace']}/{named['name']}"
        try:
            found[path] = ray.get_actor(named["name"], named["namespace"])
        except ValueError:
            found[path] = None
    return found


def _look_at_all(actors: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Asks all of them at once whether they use hixl, and waits for the answers."""
    looks = {path: actor.__ray_call__.remote(_make_look()) for path, actor in actors.items() if actor is not None}
    if looks:
        ray.wait(list(looks.values()), num_returns=len(looks), timeout=timeout)
    return looks


def _make_look() -> Callable[[Any], bool]:
    """A function inside of another one goes to the actor as it is: none of our modules, nor torch, is imported for it there."""

    def is_in_use(_: Any) -> bool:
        import sys

        return "ray_hixl" in sys.modules

    return is_in_use


def _check(actor: Any, look: Any, timeout: float) -> list[Finding] | None:
    """None where hixl is not in use. ``look``: the answer to that, which is there or comes too late; None: ask whatever it is."""
    if actor is None:
        return [_unknown("it has ended meanwhile")]
    try:
        is_in_use = look is None or ray.get(look, timeout=0)
    except GetTimeoutError:
        found = f"no answer within {timeout:g} s whether it uses hixl: it is busy, has not started yet, or hangs"
        return [_unknown(found, "a longer --timeout; or ray_hixl.check(actor) in its own job, whose handle reaches it while it is busy")]
    except RayActorError:
        return [_unknown("it has ended meanwhile")]
    except Exception as error:
        return [_unknown(f"the question whether it uses hixl failed there: {type(error).__name__}: {error}")]
    return ray_hixl.check(actor, timeout) if is_in_use else None


def _unknown(found: str, remedy: str = "") -> Finding:
    return Finding("the actor's process", "answer", WARNING, found, remedy)
