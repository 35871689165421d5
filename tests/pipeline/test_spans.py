"""The pipeline of a day: where its run lies, which days it reads, and what is refused."""

from __future__ import annotations

import datetime

import pytest

from features.config import SpecError
from features.errors import InputError
from features.ingest.spans.config import at_day, parse_span, parse_window
from features.spec import load_spec
from pipeline.cli.run import of_span
from pipeline.config import PipelineConfig, select_models
from tests.e2e.small_run import ROOT

DAY = datetime.date(2026, 11, 24)


def profile(path: str = "logs/{DATE}/impressions", **ingest) -> PipelineConfig:
    tables = {"impressions": path, "clicks": path.replace("impressions", "clicks"), "items": "items", "users": "users"}
    return PipelineConfig(
        name="shop",
        feature_spec=load_spec(ROOT / "tfx_config" / "features_simulated.yaml"),
        ingest={"tables": tables, **ingest},
        models=["autoint", "two_tower"],
        run_dir="runs/shop",
    )


def test_a_day_has_a_run_of_its_own_and_shares_the_rest():
    given = profile(split={"by": "span"}, spans={"window_days": 3})
    of_day = given.at_span(DAY)
    assert of_day.run_dir == "runs/shop/2026-11-24" and of_day.home == given.home == "runs/shop"
    assert [str(day) for day in of_day.ingest.window.dates] == ["2026-11-22", "2026-11-23", "2026-11-24"]
    assert of_day.ingest.window.store.endswith("/runs/shop/days")
    assert of_day.push_dir("autoint") == given.push_dir("autoint")
    assert given.at_span(DAY, 7).ingest.window.days == 7
    chosen = select_models(of_day, ["autoint"])
    assert chosen.ingest.window == of_day.ingest.window and chosen.home == "runs/shop"
    assert type(of_day.ingest).model_validate_json(of_day.ingest.model_dump_json()) == of_day.ingest


def test_the_command_names_a_day_where_the_log_is_by_day():
    assert of_span(profile(), "20261124", "7d").ingest.window.days == 7
    plain = profile("logs/impressions")
    assert of_span(plain, None, None) is plain
    with pytest.raises(InputError, match="--span 2026-11-24"):
        of_span(profile(), None, None)
    with pytest.raises(InputError, match="goes with `--span`"):
        of_span(profile(), None, "7d")
    with pytest.raises(SpecError, match="of one log"):
        of_span(plain, "2026-11-24", None)


def test_days_and_windows_as_they_are_written():
    assert parse_span("20261124") == parse_span("2026-11-24") == DAY
    assert parse_window("7d") == 7
    assert at_day("gs://b/day={DATE}/{SPAN}.csv", DAY) == "gs://b/day=2026-11-24/20261124.csv"
    for text in ("2026-11-31", "24.11.2026", "yesterday", "202611240"):
        with pytest.raises(InputError, match=text):
            parse_span(text)
    for text in ("7", "0d", "400d", "-1d", "1w"):
        with pytest.raises(InputError, match=text):
            parse_window(text)


@pytest.mark.parametrize(
    ("path", "ingest", "told"),
    [
        ("logs/impressions", {"split": {"by": "span"}}, "`{DATE}` or `{SPAN}`"),
        ("logs/impressions", {"window": {"span": "2026-11-24", "days": 1, "store": "x"}}, "`{DATE}`"),
        ("logs/{DATE}/impressions", {"window": {"span": "2026-11-24", "days": 1, "store": "x"}}, "leave it out"),
        ("logs/{DATE}/impressions", {"end_of_log": "2026-11-24"}, "end of the span"),
        ("logs/{DATE}/impressions", {"split": {"by": "span", "eval_fraction": 0}}, "eval_fraction"),
    ],
)
def test_what_does_not_fit_is_refused(path, ingest, told):
    with pytest.raises(ValueError, match=told):
        profile(path, **ingest)


def test_tables_of_events_lie_by_day_together():
    values = profile().model_dump()
    values["ingest"]["tables"]["clicks"]["path"] = "logs/clicks"
    with pytest.raises(ValueError, match="`tables.clicks` must lie by day"):
        PipelineConfig.model_validate(values)
    with pytest.raises(SpecError, match="two days or more"):
        profile(split={"by": "span"}).at_span(DAY, 1)
