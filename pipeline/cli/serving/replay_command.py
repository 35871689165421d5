"""`clickmill replay`: what a log says of a candidate that did not serve it, beside a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import err, out

if TYPE_CHECKING:
    from evaluation.replay.verdicts.replay_report import ReplayReport

#: Exit code of each verdict; 1 and 2 are errors.
EXIT_CODES = {"better": 0, "cannot_tell": 3, "worse": 4, "withheld": 5}
REPORT_FILE = "replay.json"
PAGE_FILE = "replay.html"
_COLUMNS = ("user", "request", "slot", "item", "propensity", "conditional", "candidates", "time")


def replay(
    logs: Annotated[
        list[str],
        typer.Option("--logs", metavar="PATH", help="A run, raw examples, or tables of impressions. May be repeated."),
    ],
    candidate: Annotated[
        str, typer.Option(metavar="POLICY", help="A release (id, label, latest), model:FOLDER or column:NAME.")
    ],
    output: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Where replay.html and replay.json are written.")
    ],
    baseline: Annotated[str, typer.Option(metavar="POLICY", help="As --candidate, or logged: the logger.")] = "logged",
    reward: Annotated[
        str, typer.Option(metavar="COLUMN", help="What is earned: a column, or as 'click + 5 * order'.")
    ] = "click",
    policy: Annotated[
        str, typer.Option(metavar="NAME", help="How scores make a list: top, softmax@T, epsilon@E, plackett_luce@T.")
    ] = "top",
    baseline_policy: Annotated[
        str | None, typer.Option(metavar="NAME", help="The same of the baseline; as --policy by default.")
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option("--estimator", "-e", metavar="NAME", help="The verdict's first. May be repeated."),
    ] = None,
    tier: Annotated[
        str, typer.Option(metavar="NAME", help="Intervals: linearised, cressie_read or sequence.")
    ] = "linearised",
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    planned: Annotated[
        float | None, typer.Option(help="Impressions, or requests, of the last look by a sequence.")
    ] = None,
    margin: Annotated[float, typer.Option(help="How much better, or worse, counts.")] = 0.0,
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="The reward is a cost.")] = False,
    effect: Annotated[
        float | None, typer.Option(help="A difference that you would like to see: says how long a log tells it.")
    ] = None,
    propensities: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="marginal, or conditional: of a slot given those above it, as simulated. One slot needs neither.",
        ),
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Read the first so many slots alone.")] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", metavar="COLUMN", help="Look at its values one by one. Repeatable.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="WHAT=NAME", help=f"Of a table: {', '.join(_COLUMNS)}. slot=none: none."),
    ] = None,
    exclude: Annotated[bool, typer.Option("--exclude", help="Leave out and count faulty requests.")] = False,
    looks: Annotated[
        str | None, typer.Option(metavar="FILE", help="Ledger of looks; by default looks.json in --out.")
    ] = None,
    root: Annotated[str, typer.Option(metavar="FOLDER", help="Serving root of releases.")] = "serving_models",
    split: Annotated[str, typer.Option(help="Of a run: which of its requests.")] = "test",
    behaviors: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Behaviour log of raw examples that are not a run's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say from logs whether a candidate would have earned more than a baseline, and whether that can be told."""
    with err().status("Reading …") as status:
        from evaluation.replay.log_table import LogColumns
        from evaluation.replay.verdicts.replay_report import ReplayPlan
        from evaluation.report.replay.pages import write_replay_page
        from features import storage
        from features.config import parse_model
        from serving.offline.replay.replay_logs import ReplayPolicies, parse_reward, replay_logs

        values = {
            "estimators": tuple(estimator or ()),
            "interval": tier,
            "level": level,
            "planned": planned,
            "margin": margin,
            "lower_is_better": lower_is_better,
            "effect": effect,
        }
        plan = parse_model(values, ReplayPlan, "clickmill replay")
        named = _columns(column or [])
        if propensities is None and slots != 1 and named.get("slot", "position") is not None:
            raise InputError(
                "--propensities marginal or conditional? A log of lists does not say whether a propensity is of its "
                "slot whatever stands in the others (marginal), or given the items above it (conditional: loggers that "
                "draw a list from the top). --slots 1, or --column slot=none, needs neither."
            )
        columns = LogColumns(
            policies={},
            reward=parse_reward(reward),
            propensity_kind=propensities or "marginal",  # type: ignore[arg-type]  refused by LogColumns
            slots=slots,
            strata={name: name for name in by or ()},
            **named,  # type: ignore[arg-type]
        )
        policies = ReplayPolicies(candidate, baseline, policy, baseline_policy, root)
        report = replay_logs(
            logs,
            policies,
            columns,
            plan,
            split=split,
            behaviors=behaviors,
            exclude=exclude,
            looks=looks or storage.join(output, "looks.json"),
            progress=lambda done, total: status.update(f"Scoring requests: {done:,} of {total:,} …"),
        )
    report.write(storage.join(output, REPORT_FILE))
    write_replay_page(report, storage.join(output, PAGE_FILE))
    print(report.to_json(), end="") if as_json else _show(report)
    raise typer.Exit(EXIT_CODES[report.outcome])


def _columns(given: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in given:
        what, equals, name = text.partition("=")
        if not equals or what not in _COLUMNS or not name:
            raise InputError(f"--column is WHAT=NAME, with WHAT of {', '.join(_COLUMNS)}. Received: {text!r}.")
        found[what] = None if name == "none" and what == "slot" else name
    return found


def _show(report: ReplayReport) -> None:
    from rich.table import Column, Table

    names = (report.plan.candidate, report.plan.baseline)
    for name in names:
        out().print(f"{name}: {report.plan.described.get(name, name)}", soft_wrap=True)
    left = "".join(f"; left out: {rows:,} rows, {fault}" for fault, rows in report.excluded.items())
    out().print(
        f"{report.rows:,} impressions, {report.requests:,} requests, {report.users:,} users "
        f"({report.propensity_kind} propensities){left}",
        soft_wrap=True,
    )
    heads = ("estimator", *names, "difference", f"{report.plan.level:.0%} interval", "relative", "verdict")
    table = Table(*(Column(head, no_wrap=True) for head in heads), padding=(0, 0))
    for row in report.sensitivity.rows:
        each = row.comparison
        low, high = each.difference.low, each.difference.high
        table.add_row(
            each.estimator,
            _number(each.candidate_value.value),
            _number(each.baseline_value.value),
            _number(each.difference.value),
            "" if low is None or high is None else f"{low:+.5f}\n{high:+.5f}",
            "" if row.relative is None else f"{row.relative:+.1%}",
            each.outcome.replace("_", " "),
        )
    out().print(table)
    out().print(f"verdict: {report.outcome.replace('_', ' ')}; between estimators: {report.sensitivity.outcome}")
    for reason in report.reasons:
        out().print(f"  {reason}", soft_wrap=True)
    power = report.comparisons[0].power
    if power.minimum_detectable is not None:
        out().print(f"This log tells a difference of {power.minimum_detectable:.5f} in {power.power:.0%} of cases.")
    if power.units_needed is not None:
        out().print(f"A difference of {power.effect:g} takes {power.units_needed:,} instead of {power.units:,} units.")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"
