"""`clickmill simulate`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.console import err, out


def simulate(
    target: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the tables.")],
    impressions: Annotated[int, typer.Option("--impressions", "-n", min=1_000, help="How many impressions.")] = 200_000,
    seed: Annotated[int, typer.Option("--seed", "-s", min=0, help="The same seed gives the same logs.")] = 0,
    history_days: Annotated[
        int, typer.Option("--history-days", min=0, help="Users clicked so many days before: adds a behaviors table.")
    ] = 0,
) -> None:
    """Simulate a marketplace whose truth is known, and write its logs."""
    import time

    from features.config import parse_model
    from features.datasets.simulator.marketplace import SimulatorConfig, simulate

    values = {"impressions": impressions, "seed": seed, "history_days": history_days}
    config = parse_model(values, SimulatorConfig, source="clickmill simulate")
    started = time.perf_counter()
    with err().status("Simulating …") as status:
        summary = simulate(config, target, lambda what, share: status.update(f"Simulating: {what} ({share:.0%}) …"))
    seconds = time.perf_counter() - started
    out().print(
        f"{summary.impression_rows:,} impressions, {summary.click_rows:,} clicks, {summary.users:,} users, "
        f"{summary.items:,} items in {seconds:.1f} s: {target}",
        soft_wrap=True,
    )
