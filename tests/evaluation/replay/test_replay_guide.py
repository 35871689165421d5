"""docs/guides/replay.md: what it shows runs, and finds what it says."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "replay.md"


@pytest.fixture(scope="module")
def section():
    return GUIDE.read_text(encoding="utf-8").split("## What AUC does not see")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def found(section):
    names = {}
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1), names)  # noqa: S102
    return names


def test_a_regression_that_auc_does_not_see_is_stopped(found):
    report, aucs = found["report"], found["by_auc"]
    assert round(aucs["live"], 2) == round(aucs["candidate"], 2)
    assert report.outcome == "worse" and not report.reasons
    assert {row.comparison.outcome for row in report.sensitivity.rows} == {"worse"}


def test_the_guide_says_what_is_found(found, section):
    text, main = " ".join(section.split()), found["report"].comparisons[0]
    difference, value = main.difference, main.baseline_value.value
    assert f"AUC is {found['by_auc']['live']:.2f} of both" in text
    assert f"{-difference.value:.4f} clicks an impression less ([{-difference.high:.4f}, {-difference.low:.4f}]" in text
    assert f"{-difference.value / value:.1%}".replace("%", " %") in text


def test_without_the_fault_nothing_is_worse(found):
    log, columns = found["log"], found["LogColumns"](policies=found["policies"], reward="click", slot=None)
    same = log.set_column(log.column_names.index("p_candidate"), "p_candidate", log["p_live"])
    assert found["replay"](same, columns).outcome == "cannot_tell"
