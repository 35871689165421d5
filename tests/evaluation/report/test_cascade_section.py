"""The cascade's section: its curves, and what its list is worth beside lists that cost nothing."""

import numpy as np
import pytest

from evaluation.cascade.config import CascadeConfig, CascadeEvaluationConfig
from evaluation.cascade.evaluate import evaluate_cascade
from evaluation.cascade.scores import CascadeScores
from evaluation.report import format as fmt
from evaluation.report import page as report
from evaluation.report.cascade_figures import cascade_figures, list_rows
from evaluation.report.plots import Points, Rule
from evaluation.results import Estimate
from tests.builders.report_example import report_data
from tests.evaluation.cascade.judged_cascade import cascade
from tests.evaluation.report.page_reader import Page


def lines(figure):
    return {mark.name: mark for mark in figure.marks if isinstance(mark, Points)}


def test_page_shows_the_cascade_and_its_curves():
    data = report_data()
    page, found = Page(report.render(data)), data.cascade
    assert "17 impressions of items outside the catalogue are left out" in page.words
    for point in (found.chosen, *found.curves):
        kept = point.metrics["ndcg"]
        assert fmt.metric(kept.value) in page.words and fmt.interval(kept) in page.words
        assert fmt.percent(point.cost_share) in page.words
    for gate in found.gates:
        assert gate.name in page.words and gate.reason in page.words
    kept, cost, recall = cascade_figures(found)
    curves = lines(kept)
    assert list(curves) == ["n₂ = 5", "n₂ = 10", "no coarse stage"]
    assert curves["n₂ = 10"].x == [20, 40] and curves["no coarse stage"].x == [10, 20, 40]
    assert curves["no coarse stage"].y[-1] == pytest.approx(1.0)  # everything passes
    by_size = {(point.retrieve, point.coarse): point for point in found.curves}
    assert curves["n₂ = 10"].y == [by_size[n, 10].metrics["ndcg"].value for n in (20, 40)]
    (gate,) = (mark for mark in kept.marks if isinstance(mark, Rule))
    assert gate.y == 0.97
    assert lines(cost)["n₂ = 5"].x == pytest.approx([100 * by_size[n, 5].cost_share for n in (10, 20, 40)])
    assert recall.marks[0].x[0] == found.chosen.metrics["ideal_recall_retrieve"].value
    assert not Page(report.render(report_data(cascade=None, verdicts=()))).section("cascade")


@pytest.mark.parametrize("grid", [(20, 50, 100, 200, 500), tuple(range(20, 20 + 17 * 25, 25))])
def test_no_two_sizes_look_alike(grid):
    """n₂ = 20 and 500 shared colour and symbol: five looks went round for six lines."""
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(6, 600)).astype(np.float32)
    order = np.argsort(-fine, axis=1)
    scores = CascadeScores(
        catalogue_size=600,
        user=np.arange(6),
        retrieved=order,
        coarse=np.take_along_axis(fine, order, axis=1),
        fine=np.take_along_axis(fine, order, axis=1),
        ideal=order[:, :10],
        ideal_logit=np.take_along_axis(fine, order, axis=1)[:, :10],
        request=np.arange(6),
        item=order[:, 0],
        label=np.ones(6, bool),
        logit=fine.max(axis=1),
    )
    config = CascadeEvaluationConfig(retrieve_grid=(100, 600), coarse_grid=grid)
    found = lines(cascade_figures(evaluate_cascade(scores, CascadeConfig(retrieve=600, coarse=20), config))[0])
    assert len(found) == len(grid) + 1
    assert len({mark.color for mark in found.values()}) == len(found)
    assert len({(mark.symbol, mark.hollow) for mark in found.values()}) == len(found)


def test_the_list_stands_beside_lists_that_cost_nothing():
    data = report_data()
    page, found = Page(report.render(data)), data.cascade
    rows = {row.title: row for row in list_rows(found)}
    assert list(rows) == [
        "Ideal",
        "This cascade",
        "Retrieval + coarse",
        "Retrieval alone",
        "Random 20 + fine",
        "One list for all",
        "Popularity",
        "Random list",
    ]
    for row in rows.values():
        assert row.title in page.words and row.note in page.words
        for metric in ("ndcg", "logged_ndcg", "clicked_ndcg"):
            assert fmt.metric(row.metrics[metric].value) in page.words
    assert rows["Ideal"].metrics["ndcg"].value == 1.0
    for name, metric in (("cascade-kept", "ndcg"), ("cascade-clicks", "logged_ndcg")):
        drawn = "".join(page.figures[name])
        for row in rows.values():
            assert f"{row.title}: {fmt.metric(row.metrics[metric].value)}" in drawn
    bare = found.model_copy(update={"references": {}})
    without = Page(report.render(report_data(cascade=bare)))
    assert "What the list is worth" not in without.words and "cascade-kept" not in without.figures


def test_the_figure_on_clicks_is_as_prominent_as_the_ranker_s_own():
    page = Page(report.render(report_data()))
    found = cascade()
    tiles = page.words[page.words.index("Cascade ▲") :]
    kept, clicks = tiles.index("NDCG@5 kept"), tiles.index("NDCG@5 on clicks")
    assert kept < clicks < tiles.index("What the list is worth")
    logged = found.chosen.metrics["logged_ndcg"].value
    random = found.references["random_list"]
    assert f"NDCG@5 on clicks{fmt.metric(logged)}" in tiles
    assert f"a random list {fmt.metric(random['ndcg'].value)}" in tiles
    assert f"random order {fmt.metric(random['logged_ndcg'].value)}" in tiles


def test_without_a_click_the_figure_on_clicks_is_left_out():
    found = cascade()
    nothing = {"logged_ndcg": Estimate(), "clicked_ndcg": Estimate()}
    bare = found.model_copy(
        update={
            "ideal": found.ideal | nothing,
            "chosen": found.chosen.model_copy(update={"metrics": found.chosen.metrics | nothing}),
            "references": {name: metrics | nothing for name, metrics in found.references.items()},
        }
    )
    page = Page(report.render(report_data(cascade=bare)))
    assert "cascade-kept" in page.figures and "cascade-clicks" not in page.figures
    assert f"NDCG@5 on clicks{fmt.ABSENT}" in page.words
