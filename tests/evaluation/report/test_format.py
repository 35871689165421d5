"""How the report writes numbers: counts as counts, small shares with three digits that say something."""

import pytest

from evaluation.report import format as fmt
from evaluation.report import page as report
from evaluation.results import GateResult
from tests.builders.report_example import evaluation, report_data
from tests.evaluation.report.page_reader import Page


@pytest.mark.parametrize(
    "value, text",
    [
        (0.424, "0.42 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (187.4, "3 min 07 s"),
        (7_200 + 7 * 60, "2 h 07 min"),
    ],
)
def test_seconds(value, text):
    assert fmt.seconds(value) == text


def test_numbers_read_alike():
    assert fmt.metric(-0.00041) == "−0.0004" and fmt.metric(float("nan")) == fmt.ABSENT
    assert fmt.percent(0.00001) == "<0.01%" and fmt.share(1, 0) == fmt.ABSENT
    assert fmt.megabytes(512.4) == "512 MB" and fmt.megabytes(1536) == "1.50 GB"
    assert fmt.milliseconds(0.00084) == "0.84 ms" and fmt.milliseconds(1.1204) == "1,120 ms"
    assert fmt.metric_title("ndcg@5") == "NDCG@5" and fmt.metric_title("log_loss") == "Log loss"
    assert fmt.metric_title("ndcg_kept") == "NDCG kept" and fmt.loss_title("ssl_loss") == "SSL loss"
    assert fmt.signed(0.0021) == "+0.0021" and fmt.signed(-0.0021) == "−0.0021" and fmt.level(0.975) == "97.5%"


@pytest.mark.parametrize(
    "value, text",
    [
        (30_200.0, "30,200"),
        (1_234_567.4, "1,234,567"),
        (100.0, "100"),
        (123.456, "123.5"),
        (0.0, "0"),
        (1.0, "1.0000"),
        (0.7421, "0.7421"),
        (0.00666667, "0.00667"),
        (-0.00666667, "−0.00667"),
        (0.0000123, "0.0000123"),
        (None, fmt.ABSENT),
    ],
)
def test_a_number_of_any_kind(value, text):
    assert fmt.number(value) == text


def gate(value, minimum=None, maximum=None):
    return GateResult(name="g", value=value, minimum=minimum, maximum=maximum, passed=True, reason="why")


@pytest.mark.parametrize(
    "found, value, limits",
    [
        (gate(30_200.0, 1_000), "30,200", "≥ 1,000"),
        (gate(5.0, 50), "5", "≥ 50"),
        (gate(1.0, 0.5), "1.0000", "≥ 0.5"),
        (gate(0.0412, 0.00666667), "0.0412", "≥ 0.00667"),
        (gate(1.0123, 0.9, 1.1), "1.0123", "[0.9, 1.1]"),
        (gate(0.9, None, 1.0), "0.9000", "≤ 1"),
        (gate(None, None, None), fmt.ABSENT, "none"),
    ],
)
def test_gates(found, value, limits):
    assert (fmt.judged(found), fmt.threshold(found)) == (value, limits)


@pytest.mark.parametrize(
    "value, step, text",
    [
        (0.3, 0.1, "0.3"),
        (0.25, 0.05, "0.25"),
        (0.025, 0.025, "0.025"),
        (20_000.0, 5_000, "20,000"),
        (-0.5, 0.5, "−0.5"),
    ],
)
def test_ticks_have_the_decimals_that_tell_them_apart(value, step, text):
    assert fmt.tick(value, step) == text


def test_a_gate_of_counts_reads_as_counts_on_the_page():
    gates = (gate(30_200.0, 1_000), gate(0.00666667, 0.005))
    page = Page(report.render(report_data(evaluation=evaluation().model_copy(update={"gates": gates}), verdicts=())))
    assert "30,200≥ 1,000" in page.words and "0.00667≥ 0.005" in page.words
    assert "30200.0000" not in page.words and "0.0067≥" not in page.words
