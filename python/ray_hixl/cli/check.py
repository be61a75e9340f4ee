"""``ray-hixl check``: ``ray_hixl.check`` for the actors of a running cluster."""

from __future__ import annotations

import json
from typing import Any

import click
import ray
from rich.console import Console

import ray_hixl
from ray_hixl.cli.findings import show
from ray_hixl.findings import count, is_ready
from ray_hixl.ray import compat


def run(address: str, timeout: float, as_json: bool) -> int:
    """Prints the findings, actor by actor; 0 if nothing is missing."""
    ray_hixl.register()
    try:
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, configure_logging=False)
    except ConnectionError as error:
        raise click.ClickException(f"check asks the actors of a running Ray cluster, and found none at {address!r}: {error}") from None
    console = Console()
    report: dict[str, Any] = {"actors": {}, "unnamed": 0}
    ready = True
    for named in ray.util.list_named_actors(all_namespaces=True):
        path = f"{named['namespace']}/{named['name']}"
        with console.status("" if as_json else path):
            findings = ray_hixl.check(ray.get_actor(named["name"], named["namespace"]), timeout)
        report["actors"][path] = [finding.to_json() for finding in findings]
        ready = ready and is_ready(findings)
        if not as_json:
            show(console, findings, f"{path}: ")
            console.print(count(findings))
    report["unnamed"] = compat.living_actors() - len(report["actors"])
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        console.print(f"{report['unnamed']} more have no name, so that Ray gives no handle here: ray_hixl.check(actor) in their own job.")
    return 0 if ready else 1
