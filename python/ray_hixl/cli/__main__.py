"""``ray-hixl``: what works here, a demonstration, measurements."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

INSTALLED_BY = {
    "ray": "'ray-hixl[ray]'",
    "torch": "torch",
    "prometheus_client": "'ray[default]'",
    "numpy": "'ray-hixl[bench]'",
    "matplotlib": "'ray-hixl[bench]'",
}


def need(what: str, *packages: str) -> None:
    """Ends the command where a package is missing that it cannot do without."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        wanted = " ".join(dict.fromkeys(INSTALLED_BY[package] for package in missing))
        raise click.ClickException(f"{what}, which needs {' and '.join(missing)}: pip install {wanted}")


def can_write(path: Path | None, folder: bool = False) -> None:
    """Ends the command before it has measured anything that it could not write down."""
    try:
        if path is not None:
            (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
            (path / "results.json" if folder else path).touch()
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None


@click.group()
def main() -> None:
    """Point-to-point, one-sided tensor transport for Ray Direct Transport."""


@main.command()
def version() -> None:
    """Print the versions of ray-hixl and of what it works with."""
    from ray_hixl.versions import versions

    for name, text in versions().items():
        click.echo(f"{name} {text}")


@main.command()
@click.option("--npu", is_flag=True, help="Also look at everything that NPU memory needs, without a transfer.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(npu: bool, as_json: bool) -> None:
    """Say which transports work on this machine, and for each that does not, why and what to do."""
    from ray_hixl.cli import doctor as command

    raise SystemExit(command.run(npu, as_json))


@main.command()
@click.option("--json", "report", type=click.Path(path_type=Path), default=None, help="Write a report here, to attach to an issue.")
@click.option("--only", default="", help="Only these steps and what they need, e.g. 4,8.2")
@click.option("--soak", default=1000, show_default=True, type=click.IntRange(min=1), help="Objects of the last step.")
@click.option("--quick", is_flag=True, help="Smaller amounts: shows that it runs, measures nothing.")
@click.option("--contract", type=click.Path(path_type=Path, exists=True), default=None, help="The C++ contract suite, for step 7.")
@click.option("--serve", default=None, metavar="ADDRESS", help="Serve step 5 to another host, on this address of this host.")
@click.option("--descriptor", type=click.Path(path_type=Path), default=Path("peer.hixl"), show_default=True, help="What --serve writes.")
@click.option("--device", default=0, show_default=True, type=click.IntRange(min=0), help="NPU that --serve uses.")
@click.option("--connect", type=click.Path(path_type=Path, exists=True), default=None, help="Run step 5 with that file of the other host.")
def bringup(
    report: Path | None,
    only: str,
    soak: int,
    quick: bool,
    contract: Path | None,
    serve: str | None,
    descriptor: Path,
    device: int,
    connect: Path | None,
) -> None:
    """Try NPU memory on new hardware, step by step, with every byte compared. See docs/npu.md."""
    from rich.console import Console

    from ray_hixl.cli.npu import bringup as command
    from ray_hixl.cli.npu import two_hosts
    from ray_hixl.cli.npu.context import Amounts, Context
    from ray_hixl.versions import versions

    console = Console()
    amounts = Amounts.quick(soak) if quick else Amounts(soak)
    if serve is not None:
        raise SystemExit(two_hosts.serve(console, serve, descriptor, device, amounts))
    wanted = {number.strip() for number in only.split(",") if number.strip()} or ({"1", "5"} if connect is not None else set())
    if unknown := wanted - command.numbers():
        raise click.BadParameter(f"there is no step {', '.join(sorted(unknown))}", param_hint="--only")
    can_write(report)
    context = Context(console, amounts, contract, connect, versions())
    raise SystemExit(command.run(context, wanted, report))


@main.command()
@click.option("--address", default="auto", show_default=True, help="Of the cluster, as ray.init takes it.")
@click.option("--timeout", default=5.0, show_default=True, type=click.FloatRange(min=0.1), help="Seconds for each actor's answer.")
@click.option("--all", "everyone", is_flag=True, help="Also ask actors that do not use hixl, which loads it and torch there.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(address: str, timeout: float, everyone: bool, as_json: bool) -> None:
    """Ask the named actors of a running Ray cluster that use hixl why they would not receive. In a program: ray_hixl.check(actor)."""
    need("check asks the actors of a Ray cluster", "ray", "torch")
    from ray_hixl.cli import check as command

    raise SystemExit(command.run(address, timeout, everyone, as_json))


@main.command()
@click.option("--mebibytes", default=256, show_default=True, type=click.IntRange(min=1), help="Size of the large handoff in MiB.")
@click.option("--seed", default=7, show_default=True, help="Seed of the tensors' contents.")
def demo(mebibytes: int, seed: int) -> None:
    """Start Ray, hand tensors from actor to actor and to the driver, compare every byte, and show what moved them."""
    need("demo hands torch tensors from one Ray actor to another", "ray", "torch")
    from ray_hixl.cli import demo as command

    raise SystemExit(command.run(mebibytes, seed))


@main.command()
@click.option(
    "--level",
    type=click.Choice(["engine", "ray", "all", "npu"]),
    default="all",
    show_default=True,
    help="npu: needs NPUs, or the FAKE CANN.",
)
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=1), help="Measured rounds; the table shows medians.")
@click.option("--quick", is_flag=True, help="Smaller shapes and fewer rounds: shows that it runs, measures nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for results.json and plots.")
def bench(level: str, rounds: int, quick: bool, out: Path | None) -> None:
    """Measure against memcpy, process_vm_readv, sockets, the object store, GLOO and Ray's own floor, side by side."""
    need("bench measures against memcpy and process_vm_readv", "numpy")
    if out is not None:
        need("--out draws plots", "matplotlib")
        can_write(out, folder=True)
    if level in ("ray", "all"):
        need(f"--level {level} measures handoffs between Ray actors", "ray", "torch")
    from ray_hixl.bench import run

    raise SystemExit(run.run(level, rounds, quick, out))


@main.command()
@click.option("--once", is_flag=True, help="Print one table and end.")
@click.option("--interval", default=10.0, show_default=True, type=click.FloatRange(min=0.1), help="Seconds between two looks.")
def top(once: bool, interval: float) -> None:
    """Show what ray-hixl moves in every process of the running cluster: bytes, fetches, failures, links, memory.

    Ray's processes hand their metrics on every 10 s (RAY_metrics_report_interval_ms), so that looking more often shows nothing more.
    """
    need("top reads the metrics of Ray's nodes", "ray", "prometheus_client")
    from ray_hixl.cli import top as command

    raise SystemExit(command.run(once, interval))


if __name__ == "__main__":
    main()
