"""Steps 1 to 7 and 10 of ``ray-hixl bringup``: the machine, HIXL itself, two processes, the contract, the soak."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from rich.progress import Progress

from ray_hixl.cli.npu import doctor, two_hosts
from ray_hixl.cli.npu.context import MIB, Context, Failed, Skipped, milliseconds, rate
from ray_hixl.cli.npu.helper import Helper, HelperError
from ray_hixl.findings import MISSING, count

_LONG_S = 300.0
_CONTRACT = "HixlContract*:HixlStart*"  # tests
_CONTRACT_S = 1800.0
_BLOCK = 32 * 1024
_SOAK_SHAPES = ((1, 4096), (1, 2 * MIB), (16, 32 * 1024), (3, MIB + 512))  # tensors, bytes of each
_WARM_UP = 20
_MOST_HBM_LOST = 16 * MIB  # of the runtime's own, over a soak


def look_around(context: Context) -> None:
    """1: the doctor."""
    with context.console.status("") as status:  # nothing is shown where the output is no terminal
        context.cann, findings = doctor.examine(context.versions, status.update)
    context.findings = [finding.to_json() for finding in findings]
    for finding in findings:
        if finding.verdict == MISSING:
            context.note(f"missing: {finding.name}: {finding.found}")
    context.note(count(findings))
    if context.cann.error:
        raise Failed("CANN cannot be used here: ray-hixl doctor --npu")
    if any(finding.verdict == MISSING for finding in findings):
        raise Failed("something is missing; the other steps are tried all the same")


def load(context: Context) -> None:
    """2: the binding: every symbol is there, and HIXL answers what it can do."""
    told = context.helper().call("work.cann", timeout=_LONG_S)
    if told["no_hixl"]:
        raise Failed(told["no_hixl"])
    engine = "client-server" if told["client_server"] else "communicator"
    context.note(f"{told['hixl']}, version {told['hixl_version']}: {engine} engine")
    context.note(f"{told['runtime']}: chip {told['soc']}, {told['devices']} device(s), physical {told['physical']}")


def start_twice(context: Context) -> None:
    """3: one process starts HIXL on npu:0 and registers a slab, ends it, and does it again."""
    helper = context.helper()
    for turn in ("first", "second"):
        begun = helper.call("work.start_device", 0, timeout=_LONG_S)
        device = begun["stats"][0]
        context.note(
            f"{turn} start: {begun['seconds'] * 1e3:.0f} ms, slab at {begun['address']:#x}, {device['slabs']['mapped_bytes'] // MIB} MiB, "
            f"{device['registrations']} registration(s)"
        )


def _read(context: Context, pair: tuple[Helper, Helper], nbytes: int, times: int, reads: int = 1) -> dict[str, Any]:
    """A region of the first NPU, read by another process into the NPU that it sees (``reads``), every byte compared."""
    owner, reader = pair
    descriptors = owner.call("peer.show_region", 0, nbytes, 7, timeout=_LONG_S)
    told: dict[str, Any] = reader.call("peer.read_region", 0, *descriptors, nbytes, 7, times, timeout=_LONG_S)
    _judge(context, f"READ of {nbytes // MIB} MiB, {context.npu(0)} to {context.npu(reads)}", told, nbytes, times)
    return told


def _judge(context: Context, what: str, told: dict[str, Any], nbytes: int, times: int) -> None:
    """Notes what a peer told of its transfers. :raises Failed: wrong bytes, or another transport."""
    moved = ", ".join(f"{name} {moved}" for name, moved in told["by_transport"].items() if moved)
    context.note(f"{what}: {milliseconds(told['seconds'])}, {rate(nbytes, min(told['seconds']))}; each moved by {moved} bytes")
    if told["wrong"]:
        raise Failed(f"{what}: {told['wrong']}")
    context.note(f"{times} x {nbytes} bytes compared, all right")
    if {name for name, moved in told["by_transport"].items() if moved} != {"hixl"}:
        raise Failed(f"{what}: the bytes did not travel by hixl")


def read_small(context: Context) -> None:
    """4.1"""
    context.need_torch()
    context.need_devices(2)
    told = _read(context, context.pair(), 2 * MIB, 3)
    context.note(f"ray-hixl's own connect took {told['connect'] * 1e3:.1f} ms; HIXL's is part of the first READ")


def read_large(context: Context) -> None:
    """4.2"""
    _read(context, context.pair(), context.amounts.large, context.amounts.times)


def fetch_blocks(context: Context) -> None:
    """4.3: an object of many tensors, packed at the source."""
    source, consumer = context.pair()
    blocks, fetches = context.amounts.blocks, context.amounts.fetches
    metadata = source.call("peer.publish", 0, blocks, _BLOCK, 3, timeout=_LONG_S)
    told = consumer.call("peer.fetch", metadata, blocks, _BLOCK, 3, fetches, timeout=_LONG_S)
    _judge(context, f"fetch of {blocks} tensors of {_BLOCK // 1024} KiB", told, blocks * _BLOCK, fetches)
    source.call("peer.release", 3)
    for device in consumer.call("peer.stats")["devices"]:
        context.note(
            f"consumer's npu:{device['device']} until now: {device['requests']} requests, {device['connects']} connects, "
            f"{device['refreshes']} refreshes, {device['slabs']['mapped_bytes'] // MIB} MiB of slabs"
        )


def read_by_roce(context: Context) -> None:
    """4.4: the same, with HCCS ruled out."""
    pair = _read_by_roce(context, (0, 1))
    _read(context, pair, context.amounts.large, context.amounts.times)


def _read_by_roce(context: Context, npus: tuple[int, int]) -> tuple[Helper, Helper]:
    """By processes of their own on those two NPUs, which it gives."""
    environment = {"HCCL_INTRA_ROCE_ENABLE": "1"}
    context.note("both processes have HCCL_INTRA_ROCE_ENABLE=1")
    pair = context.peer(npus[0], environment), context.peer(npus[1], environment)
    _read(context, pair, 2 * MIB, 3, reads=npus[1])
    return pair


def differ(context: Context) -> None:
    """4.5: one side forced to RoCE, the other not: must be refused by name, before HIXL would wait in vain."""
    here = os.environ.get("HCCL_INTRA_ROCE_ENABLE", "")
    owner, reader = context.peer(0, {"HCCL_INTRA_ROCE_ENABLE": None if here == "1" else "1"}), context.pair()[1]
    descriptors = owner.call("peer.show_region", 0, 2 * MIB, 7, timeout=_LONG_S)
    _expect_refusal(context, reader, "not_available", "peer.read_region", 0, *descriptors, 2 * MIB, 7, 1)


def _expect_refusal(context: Context, helper: Helper, code: str, function: str, *arguments: Any) -> None:
    try:
        helper.call(function, *arguments, timeout=_LONG_S)
    except HelperError as error:
        if error.code != code:
            raise
        context.note(f"refused: {error}")
        return
    raise Failed("it was not refused")


def read_from_the_other_host(context: Context) -> None:
    """5"""
    if context.connect is None:
        raise Skipped(
            "on the other host: ray-hixl bringup --serve <its address> --descriptor peer.hixl; copy that file here; then: "
            "ray-hixl bringup --connect peer.hixl"
        )
    context.need_torch()
    two_hosts.read(context, context.connect)


def share_a_device(context: Context) -> None:
    """6: refused by name where HIXL would take HCCS, and with CANN below 9.1; else, and over RoCE, they read."""
    context.need_torch()
    reader, owner = context.peer(0), context.pair()[0]
    if not context.cann.client_server:
        descriptors = owner.call("peer.show_region", 0, 2 * MIB, 7, timeout=_LONG_S)
        return _expect_refusal(context, reader, "not_available", "peer.read_region", 0, *descriptors, 2 * MIB, 7, 1)
    try:
        _read(context, (owner, reader), 2 * MIB, 3, reads=0)
    except HelperError as error:
        if not error.is_about_one_npu:
            raise
        context.note(f"refused: {error}")
        _read_by_roce(context, (0, 0))


def check_contract(context: Context) -> None:
    """7"""
    if context.contract is None:
        raise Skipped("needs the C++ tests: build them, then --contract build/dev/tests/cpp/test_transport; see docs/npu.md")
    if not context.cann.client_server:
        raise Skipped("the suite is about HIXL's client-server engine, which comes with CANN 9.1")
    folders = dict.fromkeys(str(Path(library).parent) for library in (context.cann.runtime, context.cann.hixl))
    variables = {"RAY_HIXL_TEST_CANN": ":".join(folders), "RAY_HIXL_TEST_DEVICES": f"0,{min(1, context.cann.devices - 1)}"}
    command = [str(context.contract.resolve()), f"--gtest_filter={_CONTRACT}", "--gtest_color=no"]
    context.note(" ".join([*(f"{name}={text}" for name, text in variables.items()), *command]))
    try:
        ended = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=_CONTRACT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"it did not run to its end: {error}") from error
    results = re.findall(r"^\[ +(OK|FAILED|SKIPPED) +\] ([\w/.]+).* \(\d+ ms\)$", ended.stdout, re.MULTILINE)
    for outcome, test in results:
        context.note(f"{outcome}: {test}")
    if ended.returncode != 0 or not results:
        tail = (ended.stdout + ended.stderr)[-4000:]
        raise Failed(f"it ended with code {ended.returncode}: HIXL behaves otherwise than we think, or it did not start:\n{tail}")


def soak(context: Context) -> None:
    """10: many objects; then everything is what it was after a few."""
    source, consumer = context.pair()

    def hand_over(number: int) -> None:
        tensors, nbytes = _SOAK_SHAPES[number % len(_SOAK_SHAPES)]
        metadata = source.call("peer.publish", 0, tensors, nbytes, number, timeout=_LONG_S)
        told = consumer.call("peer.fetch", metadata, tensors, nbytes, number, 1, timeout=_LONG_S)
        if told["wrong"]:
            raise Failed(f"object {number}: {told['wrong']}")
        source.call("peer.release", number)

    with Progress(console=context.console, transient=True) as progress:
        task = progress.add_task("      objects", total=context.amounts.soak + _WARM_UP)

        def run(first: int, last: int) -> None:
            for number in range(first, last):
                hand_over(number)
                progress.advance(task)

        run(0, _WARM_UP)
        before = _levels(source), _levels(consumer)
        run(_WARM_UP, _WARM_UP + context.amounts.soak)
    after = _levels(source), _levels(consumer)
    context.note(f"{context.amounts.soak} objects of {len(_SOAK_SHAPES)} shapes published, fetched, compared and released")
    grown = []
    for who, was, now in zip(("source", "consumer"), before, after, strict=True):
        context.note(f"{who}: " + ", ".join(f"{name} {now[name]}" for name in now))
        grown += [f"{who}: {name} went from {was[name]} to {now[name]}" for name in now if _has_grown(name, was[name], now[name])]
    if grown:
        raise Failed("; ".join(grown))


def _levels(helper: Helper) -> dict[str, int]:
    figures: dict[str, int] = helper.call("peer.settled_levels", 0)
    return figures


def end(context: Context) -> None:
    """11: with tensors alive, as programs end."""
    if context.shared is None:
        raise Skipped("there are none")
    problems = context.close_pair(kill=False)
    if problems:
        raise Failed("; ".join(problems))
    context.note("both ended with code 0, with tensors of their NPUs alive")


def _has_grown(name: str, was: int, now: int) -> bool:
    return was - now > _MOST_HBM_LOST if name == "device bytes free" else now > was
