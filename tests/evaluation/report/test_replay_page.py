"""The page of a replay, that of an experiment, the run report's section: what they say, and that all can be read."""

import numpy as np
import pyarrow as pa
import pytest

from evaluation.replay.experiment.experiment_plan import ExperimentPlan, read_plan
from evaluation.replay.experiment.metrics import ExperimentMetric
from evaluation.replay.experiment.users import read_users
from evaluation.replay.log_table import LogColumns
from evaluation.replay.replay import replay
from evaluation.replay.verdicts.replay_report import ReplayReport
from evaluation.report.page import render
from evaluation.report.replay.pages import figures_of, write_experiment_page, write_replay_page
from evaluation.report.svg import draw
from tests.builders.report_example import report_data
from tests.evaluation.report import chromium

ESTIMATORS = ("snips", "ips", "clipped_ips@1.2", "sniips")


def make_report(requests: int = 1500, slots: int = 4) -> ReplayReport:
    """A candidate that shows what earns more; clipping cuts much of it, which withholds that estimator alone."""
    rng, rows = np.random.default_rng(2), requests * slots
    request, weight = np.repeat(np.arange(requests), slots), rng.choice([0.4, 1.6], rows)
    table = pa.table(
        {
            "user_id": request % 700,
            "request_id": request,
            "position": np.tile(np.arange(slots), requests),
            "timestamp": 1_772_323_200_000 + request % 4 * 86_400_000,
            "city": pa.array([f"city <{each % 3}>" for each in request]),
            "propensity": np.full(rows, 0.25),
            "p_new": weight / 4,
            "click": rng.random(rows) < 0.1 + 0.1 * weight,
        }
    )
    columns = LogColumns({"new": "p_new", "live": "propensity"}, "click", time="timestamp", strata={"city": "city"})
    settings = {"described": {"new": "release 7 by top", "live": "logged"}, "effect": 0.001}
    return replay(table, columns, candidate="new", baseline="live", estimators=ESTIMATORS, **settings)


@pytest.fixture(scope="module")
def report():
    return make_report()


@pytest.fixture(scope="module")
def pages(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_replay_page(report, folder / "replay.html")
    write_replay_page(make_report(requests=200), folder / "withheld.html")
    rng, rows = np.random.default_rng(0), 4000
    table = pa.table(
        {
            "user_id": np.arange(rows) % 800,
            "variant": pa.array(["new" if each % 2 else "old" for each in np.arange(rows) % 800]),
            "click": (rng.random(rows) < 0.3 + 0.05 * (np.arange(rows) % 2)).astype(float),
            "day": pa.array([f"2026-03-0{1 + each // 1000}" for each in range(rows)]),
            "city": pa.array([f"city_{each % 3}" for each in np.arange(rows) % 800]),
        }
    )
    metric = ExperimentMetric(name="ctr", numerator="click", denominator="rows")
    plan = {"logs": "x", "shares": {"new": 1, "old": 1}, "candidate": "new", "baseline": "old", "metrics": [metric]}
    users = read_users(table, ["click"], day="day", slices=["city"])
    found = read_plan(ExperimentPlan(**plan, day="day", slices=("city",)), users)
    write_experiment_page(found, folder / "experiment.html")
    (folder / "run.html").write_text(render(report_data().model_copy(update={"replay": report})))
    return folder


def test_all_estimators_stand_side_by_side_and_the_withheld_are_grey(report):
    values, differences, *of_requests = figures_of(report)["forests"]
    assert [figure.id for figure in of_requests] == ["values-request", "differences-request"]
    texts = [text for _, text in differences.panels[0].y.ticks]
    assert texts == ["SNIPS", "IPS", "Clipped IPS 1.2"]
    judged, withheld = differences.panels[0].marks[1:]
    assert judged.color == ["good", "good"] and withheld.hollow and withheld.color == "muted"
    assert withheld.y == [2.0] and withheld.x[0] == report.comparisons[2].difference.value
    names = {mark.name for mark in values.panels[0].marks}
    assert names == {"new", "live", "new, withheld", "live, withheld"}
    assert "new by SNIPS" in values.alt and "withheld" in differences.alt


def test_where_the_log_can_tell_is_drawn_by_slot_day_and_segment(report):
    figures = figures_of(report)
    titles = {figure.title for figure in figures["effective"]}
    assert titles == {f"Effective rows of {p} by {k}" for p in ("new", "live") for k in ("slot", "day", "city")}
    drawn = "".join(map(draw, figures["effective"]))
    assert "2026-03-02" in drawn and "city &lt;1&gt;" in drawn and "slot 3" in drawn
    weights = figures["weights"][0]
    assert weights.title == "Weights of new" and weights.panels[0].marks[0].y[-1][1] <= report.users
    assert figures["slots"].panels[0].marks[1].y == pytest.approx([1.0] * 4, abs=0.05)


def test_the_pages_say_the_verdict_and_its_reasons(pages):
    page = (pages / "replay.html").read_text()
    assert "✓ Better" in page and "release 7 by top" in page and "The estimator cuts off" in page
    withheld = (pages / "withheld.html").read_text()
    assert "▲ No verdict." in withheld and "users of equal weight" in withheld
    experiment = (pages / "experiment.html").read_text()
    assert "✓ Sound" in experiment and "city_2" in experiment
    run = (pages / "run.html").read_text()
    assert '<a href="#replay">Replay</a>' in run and 'id="figure-differences-impression"' in run
    for path in pages.iterdir():
        assert path.stat().st_size < 500_000, path.name


@pytest.mark.parametrize("dark, phone", [(False, False), (True, False), (False, True)])
def test_they_can_be_read_by_light_in_the_dark_and_on_a_phone(pages, dark, phone):
    with chromium.chromium() as browser, chromium.opened(browser, dark=dark, phone=phone) as page:
        for path in sorted(pages.iterdir()):
            page.asked.clear()
            page.goto(f"file://{path}")
            chromium.open_details(page)
            assert chromium.faint_texts(page) == [], path.name
            assert chromium.cut_off(page) <= 0, path.name
            assert page.asked == [f"file://{path}"]
