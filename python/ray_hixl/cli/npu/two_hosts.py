"""Two hosts: one serves objects and writes their descriptors into a file, the other reads them."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import threading
from pathlib import Path

from rich.console import Console

from ray_hixl.cli.npu.context import MIB, Amounts, Context, Failed, milliseconds, rate
from ray_hixl.cli.npu.helper import Helper

_LONG_S = 300.0


def serve(console: Console, host: str, file: Path, device: int, amounts: Amounts) -> int:
    """Publishes objects on an address of this host and waits for Ctrl-C. The file's reader can read them: nobody else may see it."""
    with Helper() as helper:
        helper.call("peer.open_engine", host, timeout=_LONG_S)
        objects = []
        shapes = ((1, 2 * MIB), (1, amounts.large), (amounts.blocks, 32 * 1024))  # tensors, bytes of each
        for seed, (count, nbytes) in enumerate(shapes):
            metadata = helper.call("peer.publish", device, count, nbytes, seed, timeout=_LONG_S)
            objects.append({"count": count, "nbytes": nbytes, "seed": seed, "metadata": base64.b64encode(metadata).decode()})
        _write_secret(file, json.dumps({"ray-hixl bringup": 1, "host": host, "objects": objects}))
        console.print(
            f"{len(objects)} objects are published on npu:{device} of {host}. Copy {file} (a secret) to the other host, and run there:"
        )
        console.print(f"  ray-hixl bringup --connect {file.name} --json report.json", highlight=False)
        console.print("Ctrl-C ends it; delete the file then.")
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        while not stopped.wait(0.2):
            pass
    file.unlink(missing_ok=True)
    console.print("Ended; the file is deleted here.")
    return 0


def _write_secret(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


def _address_towards(host: str) -> str:
    """This host's address on the way there. Nothing is sent. The loopback one would tell an A2 that both are one host."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((host, 9))
        return str(way.getsockname()[0])


def read(context: Context, file: Path) -> None:
    """Fetches what the other host serves, and compares every byte."""
    try:
        served = json.loads(file.read_text())
        objects, here = served["objects"], _address_towards(served["host"])
    except (OSError, ValueError, KeyError) as error:
        raise Failed(f"{file} is no file of ray-hixl bringup --serve: {error}") from error
    context.note(f"reading from {served['host']}, as {here}")
    reader = context.helper(context.seeing(0))
    reader.call("peer.open_engine", here, timeout=_LONG_S)
    for each in objects:
        count, nbytes = int(each["count"]), int(each["nbytes"])
        metadata = base64.b64decode(each["metadata"])
        told = reader.call("peer.fetch", metadata, count, nbytes, int(each["seed"]), 5, timeout=_LONG_S)
        if told["wrong"]:
            raise Failed(f"{count} x {nbytes} bytes: {told['wrong']}")
        moved = sorted(name for name, bytes_moved in told["by_transport"].items() if bytes_moved)
        speed = rate(count * nbytes, min(told["seconds"]))
        context.note(f"{count} x {nbytes} bytes: {milliseconds(told['seconds'])}, {speed}, by {', '.join(moved)}; all compared")
        if moved != ["hixl"]:
            raise Failed("the bytes did not travel by hixl")
