"""Joining the running cluster that a command asks."""

from __future__ import annotations

import logging
import socket

import click
import ray

from ray_hixl.ray import compat

_ANSWER_S = 5.0


def join(address: str, command: str) -> str:
    """Connects this process to the cluster at ``address``, as ``ray.init`` takes it. Gives where it was found.

    :raises click.ClickException: there is none, or it does not answer. Ray itself would try for minutes, without a word.
    """
    place = address
    try:
        place = compat.cluster_address(address)
        host, _, port = place.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
        ray.init(place, ignore_reinit_error=True, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError) as error:  # a ConnectionError is an OSError
        why = str(error).rstrip(".")
        raise click.ClickException(
            f"{command} asks a running Ray cluster, and none answers at {place!r}: {why}. Start one (ray start --head), or name it by "
            "RAY_ADDRESS"
        ) from None
    return place
