"""``ray-hixl``: what works here, a demonstration, measurements."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def main() -> None:
    """Point-to-point, one-sided tensor transport for Ray Direct Transport."""


@main.command()
def version() -> None:
    """Print the versions of ray-hixl and of what it works with."""
    from ray_hixl.cli.doctor import versions

    for name, text in versions().items():
        click.echo(f"{name} {text}")


@main.command()
def doctor() -> None:
    """Say which transports work on this machine, and for each that does not, why and what to do."""
    from ray_hixl.cli import doctor as command

    raise SystemExit(command.run())


@main.command()
@click.option("--mebibytes", default=256, show_default=True, help="Size of the large handoff in MiB.")
@click.option("--seed", default=7, show_default=True, help="Seed of the tensors' contents.")
def demo(mebibytes: int, seed: int) -> None:
    """Start Ray, hand tensors from actor to actor and to the driver, compare every byte, and show what moved them."""
    from ray_hixl.cli import demo as command

    raise SystemExit(command.run(mebibytes, seed))


@main.command()
@click.option("--level", type=click.Choice(["engine", "ray", "all"]), default="all", show_default=True)
@click.option("--rounds", default=7, show_default=True, help="Measured rounds; the table shows medians.")
@click.option("--quick", is_flag=True, help="Smaller shapes and fewer rounds: shows that it runs, measures nothing.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for results.json and plots.")
def bench(level: str, rounds: int, quick: bool, out: Path | None) -> None:
    """Measure against memcpy, process_vm_readv, sockets, the object store, GLOO and Ray's own floor, side by side."""
    from ray_hixl.bench import run

    raise SystemExit(run.run(level, rounds, quick, out))


@main.command()
def top() -> None:
    """Show live transfers (not in this version)."""
    raise click.ClickException("top: engines do not publish live figures in this version; ray_hixl.stats() has the counters")


if __name__ == "__main__":
    main()
