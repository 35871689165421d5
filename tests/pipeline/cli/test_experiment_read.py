"""`clickmill experiment read`: a gateway's exposures and the clicks that came of them, to verdicts, JSON and a page."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from evaluation.replay.experiment.experiment_plan import ExperimentReport
from pipeline.cli.app import app

DAYS = 6


def write_logs(folder, effect=0.06, users=3000, lost=0.0, until=DAYS):
    """Exposures by user and day, two items a request; users differ by much, as what they did before says."""
    rng = np.random.default_rng(5)
    new, rate = rng.random(users) < 0.5, rng.beta(2, 8, users)
    kept = np.flatnonzero(~(new & (rng.random(users) < lost)))
    request = np.array([f"{user}-{day}" for user in kept for day in range(DAYS)])
    user, day = np.repeat(kept, DAYS), np.tile(np.arange(DAYS), len(kept))
    here = np.repeat(day < until, 2)
    rows = pa.table(
        {
            "request_id": np.repeat(request, 2),
            "user_id": pa.array([f"u{each}" for each in np.repeat(user, 2)]),
            "item_id": np.tile(["a", "b"], len(user)),
            "timestamp": np.repeat(1_772_323_200_000 + day * 86_400_000 + user % 1000, 2),
            "city": pa.array([f"city_{each % 3}" for each in np.repeat(user, 2)]),
            "variants": [
                ["price=low", f"ranker={'new' if each else 'old'}"] if each is not None else ["price=low"]
                for each in np.repeat(new[user], 2)
            ],
            "forced": np.repeat(user % 50 == 7, 2),
        }
    )
    click = rng.random(rows.num_rows) < np.repeat(rate[user] + effect * new[user], 2)
    clicks = rows.filter(pa.array(click & here)).select(["request_id", "item_id", "timestamp"])
    (folder / "exposures").mkdir(parents=True, exist_ok=True)
    shown = rows.filter(pa.array(here))
    half = shown.num_rows // 2
    pq.write_table(shown.slice(0, half), folder / "exposures" / "1.parquet")
    pq.write_table(shown.slice(half), folder / "exposures" / "2.parquet")
    pq.write_table(pa.concat_tables([clicks, clicks.slice(0, 9)]), folder / "clicks.parquet")
    names = pa.array([f"u{each}" for each in range(users)])
    pq.write_table(pa.table({"user_id": names, "rate_before": rng.binomial(60, rate) / 60}), folder / "before.parquet")
    return click[here].sum(), shown.num_rows


def write_plan(folder, **changes):
    plan = {
        "logs": str(folder / "exposures"),
        "events": {"click": str(folder / "clicks.parquet")},
        "variant": "variants",
        "layer": "ranker",
        "shares": {"new": 50, "old": 50},
        "candidate": "new",
        "baseline": "old",
        "metrics": [
            {"name": "ctr", "numerator": "click", "denominator": "rows"},
            {"name": "ctr_cuped", "numerator": "click", "denominator": "rows", "covariates": ["rate_before"]},
        ],
        "before": str(folder / "before.parquet"),
        "day": "timestamp",
        "slices": ["city"],
        "effects": {"ctr": 0.01},
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan | changes))
    return str(folder / "plan.yaml")


def run(*arguments, code=0):
    found = CliRunner().invoke(app, ["experiment", "read", *arguments])
    assert found.exit_code == code, found.output
    return found.output


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    return folder, write_logs(folder)


def test_it_reads_exposures_and_clicks_to_verdicts_a_page_and_json(logs, tmp_path):
    folder, (clicks, rows) = logs
    told = run(write_plan(folder), "--out", str(tmp_path))
    report = ExperimentReport.model_validate_json((tmp_path / "experiment.json").read_text())
    plain, adjusted = report.reading.metrics
    assert plain.outcome == adjusted.outcome == "better" and plain.difference.low < 0.06 < plain.difference.high
    assert adjusted.variance_left < 0.8 and report.reading.sample_ratio > 0.001
    # Clicks count once, forced users not at all.
    assert sum(report.reading.users.values()) == 3000 - 60
    assert plain.candidate_value.value == pytest.approx(0.26, abs=0.02)
    assert len(report.days[0].days) == DAYS and report.days[0].days[0].day == "2026-03-01"
    assert {each.value for each in report.slices[0].slices} == {"city_0", "city_1", "city_2"}
    assert "sample ratio: p =" in told and "covariates left" in told and "ctr by slice" in told
    page = (tmp_path / "experiment.html").read_text()
    assert "✓ Sound" in page and 'id="figure-days-ctr"' in page and len(page) < 300_000


def test_a_look_is_counted_and_a_second_at_more_rows_is_refused(logs, tmp_path):
    folder, _ = logs
    write_logs(tmp_path, until=3)
    run(write_plan(tmp_path), "--out", str(tmp_path / "out"))
    run(write_plan(tmp_path), "--out", str(tmp_path / "out"))  # the same log is the same look
    before = (tmp_path / "out" / "experiment.json").read_text()
    write_logs(tmp_path)
    told = run(write_plan(tmp_path), "--out", str(tmp_path / "out"), code=2)
    assert "holds for one look" in told and (tmp_path / "out" / "experiment.json").read_text() == before
    sequence = write_plan(tmp_path, planned_users=3000)
    assert "cannot go on with" in run(sequence, "--out", str(tmp_path / "out"), code=2)
    run(sequence, "--looks", str(tmp_path / "own.json"))
    write_logs(tmp_path, until=5)
    run(sequence, "--looks", str(tmp_path / "own.json"))
    assert len(json.loads((tmp_path / "own.json").read_text())["looks"]) == 2


def test_lost_users_withhold_everything(tmp_path):
    write_logs(tmp_path, lost=0.2)
    found = json.loads(run(write_plan(tmp_path), "--json"))
    assert [each["outcome"] for each in found["reading"]["metrics"]] == ["withheld", "withheld"]
    assert "find where they are lost" in run(write_plan(tmp_path))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"layer": None}, "name one as `layer`"),
        ({"layer": "no"}, "no row has a variant of layer `no`"),
        ({"candidate": "newer"}, "variant `newer` has no share"),
        ({"logs": "{folder}/nowhere"}, "no Parquet file stands at"),
        ({"slices": ["town"]}, "has no column `town`"),
        ({"metrics": [{"name": "a", "numerator": "item_id"}]}, "`item_id` must hold numbers"),
        ({"metrics": [{"name": "a", "numerator": "click", "denominater": "rows"}]}, "denominator"),
        ({"before": "{folder}/plan.yaml"}, "no Parquet file stands at"),
    ],
)
def test_mistakes_are_named(logs, changes, message):
    folder, _ = logs
    given = {k: v.format(folder=folder) if isinstance(v, str) else v for k, v in changes.items()}
    path = write_plan(folder, **given)
    assert message in " ".join(run(path, code=2).split())
