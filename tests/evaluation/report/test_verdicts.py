"""One row a model at the top of the page: the word, why there is none, the rows that would tell, the failed gates."""

import pytest

from evaluation.report import page as report
from evaluation.report.verdicts import combined, model_verdict, stage_finding
from evaluation.results import GateResult, LiveComparison
from tests.builders.report_example import UNJUDGED, evaluation, report_data, retrieval
from tests.evaluation.cascade.judged_cascade import cascade, stages
from tests.evaluation.report.page_reader import Page


def gate(verdict, rows=None, name="live_auc"):
    return GateResult(name=name, value=0.0, passed=True, reason="", verdict=verdict, rows_needed=rows)


@pytest.mark.parametrize(
    "found, verdict, rows",
    [
        ([], None, None),
        ([gate(None)], None, None),
        ([gate("better"), gate("no_worse")], "better", None),
        ([gate("no_worse"), gate("no_worse")], "no_worse", None),
        ([gate("better"), gate("worse"), gate("cannot_tell", 9)], "worse", None),
        ([gate("cannot_tell", 30_200), gate("better"), gate("cannot_tell", 800)], "cannot_tell", 30_200),
        ([gate("cannot_tell")], "cannot_tell", None),
    ],
)
def test_gates_that_compare_are_drawn_together(found, verdict, rows):
    assert combined(found) == (verdict, rows)


def test_live_and_anchor_are_told_apart():
    row = model_verdict("AutoInt", "fine", evaluation(), "17")
    assert (row.live.verdict, row.live.version, row.live.rows_needed) == ("better", "1702", None)
    assert (row.anchor.verdict, row.anchor.version, row.anchor.rows_needed) == ("cannot_tell", "1650", 30_200)
    assert row.metric == "auc" and row.value == evaluation().model.metrics["auc"] and row.pushed_version == "17"
    assert [failed.name for failed in row.failed] == ["slice_auc:age_band=55+"] and not row.blessed


def test_what_could_not_be_compared_says_why():
    first = model_verdict("AutoInt", "fine", evaluation(live=False))
    assert first.live.verdict is None and first.live.reason == "first model" and first.anchor is None
    assert model_verdict("t", "retrieval", retrieval(live=False)).live.reason == "first model"
    unscored = LiveComparison(rows=0, metrics={}, version="1699", unscored="It reads `brand`.")
    row = model_verdict("AutoInt", "fine", evaluation().model_copy(update={"live": unscored, "gates": ()}))
    assert (row.live.verdict, row.live.reason, row.live.version) == (None, "It reads `brand`.", "1699")


def test_retrieval_and_cascade_have_a_row_too():
    found = retrieval()
    row = model_verdict("Two-tower", "retrieval", found)
    assert row.metric == "recall@50" and row.value.value == found.model.slices["all"]["recall@50"]
    whole = cascade()
    row = model_verdict("Cascade", "cascade", whole)
    assert row.value == whole.chosen.metrics["ndcg"] and row.blessed == whole.blessed
    with pytest.raises(TypeError, match="no headline"):
        model_verdict("x", "fine", "nothing")


def rows_of(page):
    """The text of the verdicts' section, a string a row."""
    start, end = page.words.index("Verdicts Model"), page.words.index("Metrics Over")
    return page.words[start:end]


def test_every_model_and_the_cascade_stand_at_the_top():
    data = report_data()
    page = Page(report.render(data))
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert sections[0] == "verdicts"
    table = rows_of(page)
    places = [table.index(model.name) for model in data.verdicts]
    assert places == sorted(places) and len(places) == 5
    for text in (
        "cannot tellabout 30,200 rows would tell",
        "betterversion 1702",
        "first model",
        "The live model reads `brand`, which the log lacks.version 1699",
        "slice_auc:age_band=55+: AUC of age_band=55+ is 0.6412",
        "✗ not blessed",
        "✓ blessedserves as 1762",
        "0.7421AUC [0.7381, 0.7461]",
        f"{data.cascade.chosen.metrics['ndcg'].value:.4f}NDCG kept [",
    ):
        assert text in table, text
    assert not Page(report.render(report_data(verdicts=()))).section("verdicts")


def test_slices_that_no_gate_judges_are_shown_as_such():
    page = Page(report.render(report_data()))
    assert page.words.count(f"not judged: {UNJUDGED}") == 1 and "Grey: what no gate judges" in page.words
    assert "toys: " in "".join(page.figures["slice-category"])
    assert "".join(page.figures["slice-category"]).count("not judged") == 1
    whole = evaluation()
    judged = [part.model_copy(update={"unjudged": ""}) for part in whole.slices]
    without = Page(report.render(report_data(evaluation=whole.model_copy(update={"slices": tuple(judged)}))))
    assert "not judged" not in without.words and "Grey" not in without.words


@pytest.mark.parametrize(
    "differences, warns, words",
    [
        (
            (-0.0020, 0.0041),
            True,
            "HCN (coarse) is better than AutoInt (fine) on the same impressions: Log loss −0.00",
        ),
        (
            (0.0020, -0.0041),
            False,
            "AutoInt (fine) is better than HCN (coarse) on the same impressions: Log loss +",
        ),
        ((0.0010, -0.0010), False, "Neither HCN (coarse) nor AutoInt (fine) is shown"),
        ((0.0020, 0.0041), True, "AUC +0.0041 [0.0025, 0.0057]. The reverse holds of Log loss +0.0020"),
    ],
)
def test_the_report_says_when_the_coarse_ranker_is_better(differences, warns, words):
    found = stages(*differences)
    sentence, warning = stage_finding(found)
    assert words in sentence and warning is warns
    page = Page(report.render(report_data(stages=found)))
    classes = [attrs["class"] for tag, attrs in page.tags if tag == "p" and "warning" in attrs.get("class", "")]
    assert len(classes) == (2 if warns else 0)  # at the top, and on top of the cascade's section
    assert page.words.count(sentence) == (2 if warns else 1)


def test_a_live_model_without_an_anchor_is_the_anchor_itself():
    row = model_verdict("AutoInt", "fine", evaluation().model_copy(update={"anchor": None}))
    assert row.live.verdict == "better" and row.anchor.reason == "the live model is the anchor"


def test_a_live_model_that_could_not_be_scored_has_no_column():
    unscored = LiveComparison(rows=0, metrics={}, unscored="It reads `brand`, which the log lacks.")
    page = Page(report.render(report_data(evaluation=evaluation().model_copy(update={"live": unscored}))))
    assert "Not compared: It reads `brand`, which the log lacks." in page.words
    assert "Live model" not in page.words[page.words.index("Metrics Over") : page.words.index("Beside the live model")]
