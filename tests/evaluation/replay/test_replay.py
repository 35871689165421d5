"""The front door on a table: one report, of whatever parts, by marginal and by conditional propensities."""

import numpy as np
import pyarrow as pa
import pytest

import clickmill as cm
from evaluation.replay.log_table import LogColumns, logged_from_table
from evaluation.replay.verdicts.replay_report import ReplayPlan, ReplayReport, ReplaySums, report_of
from features.config import SpecError
from features.errors import InputError

COLUMNS = LogColumns(
    policies={"candidate": "p_new", "baseline": "p"},
    propensity="p",
    reward="label",
    time="time",
    strata={"city": "city"},
)
SLOTS, ITEMS = 2, 4


def lists(requests=3000, users=1500, seed=0):
    """Plackett-Luce lists by a logger that logs conditionals, of a candidate that prefers the items that earn."""
    rng = np.random.default_rng(seed)
    logger, candidate = np.ones(ITEMS), np.array([2.5, 1.0, 1.0, 0.5])
    order = np.argsort(-(np.log(logger) + rng.gumbel(size=(requests, ITEMS))), axis=1)[:, :SLOTS]
    p, p_new = np.empty((requests, SLOTS)), np.empty((requests, SLOTS))
    for into, rates in ((p, logger), (p_new, candidate)):
        left = np.full(requests, rates.sum())
        for slot in range(SLOTS):
            into[:, slot] = rates[order[:, slot]] / left
            left = left - rates[order[:, slot]]
    reward = rng.random(order.shape) < np.array([0.5, 0.2, 0.2, 0.1])[order]
    request = np.repeat(np.arange(requests), SLOTS)
    return pa.table(
        {
            "user_id": request % users,
            "request_id": request,
            "position": np.tile(np.arange(SLOTS), requests),
            "p": p.ravel(),
            "p_new": p_new.ravel(),
            "label": reward.ravel().astype(float),
            "time": request * 50_000,
            "city": np.where(request % 3, "paris", "rome"),
        }
    )


def truth(rates):
    """The candidate's mean reward of an impression, over all lists."""
    worth, total = np.array([0.5, 0.2, 0.2, 0.1]), 0.0
    for first in range(ITEMS):
        for second in set(range(ITEMS)) - {first}:
            chance = rates[first] / rates.sum() * rates[second] / (rates.sum() - rates[first])
            total += chance * (worth[first] + worth[second]) / SLOTS
    return total


def test_a_log_of_conditional_propensities_is_judged_right_and_by_what_can():
    """Weights of the slots down to a row are right; read as marginals, the second slot's are not."""
    columns = cm.LogColumns(**{**vars(COLUMNS), "propensity_kind": "conditional"})
    report = cm.replay(lists(20_000, 10_000), columns)
    assert report.propensity_kind == "conditional" and report.outcome == "better"
    expected = truth(np.array([2.5, 1.0, 1.0, 0.5]))
    for each in report.comparisons[:2]:
        assert abs(each.candidate_value.value - expected) < 3.5 * (each.candidate_value.high - expected) / 1.96 + 1e-9
        assert each.candidate_value.low < expected < each.candidate_value.high
    assert [each.estimator for each in report.comparisons] == ["snips", "ips", "clipped_ips@20", "snrips"]
    for name in ("iips", "pi", "sniips", "replay", "mips"):
        with pytest.raises(InputError, match=f"`{name}` needs the probability of an item in its slot"):
            cm.replay(lists(50), columns, estimators=(name,))
    first = cm.LogColumns(**{**vars(columns), "slots": 1})
    assert cm.replay(lists(400), first, estimators=("iips",)).propensity_kind == "marginal"


def test_conditionals_beside_marginals_weigh_whole_lists():
    table = lists(300)
    columns = cm.LogColumns(
        **{**vars(COLUMNS), "conditional": "p", "conditionals": {"candidate": "p_new", "baseline": "p"}}
    )
    log = logged_from_table(table, columns)
    ratio = (table["p_new"].to_numpy() / table["p"].to_numpy()).reshape(-1, SLOTS)
    np.testing.assert_allclose(log.cascade_weights["candidate"], np.cumprod(ratio, axis=1).ravel())
    np.testing.assert_allclose(log.weights["candidate"], ratio.ravel())
    assert "snrips" in cm.replay(table, columns).plan.estimators
    with pytest.raises(InputError, match="a slot above is not in the log: 1 of"):
        logged_from_table(table.slice(1), columns)
    gone = logged_from_table(table.slice(1), columns, exclude=True)
    assert gone.excluded == {"a slot above is not in the log": 1} and len(gone) == len(table) - 2


def test_parts_make_the_same_report():
    plan, table = ReplayPlan(), lists(600)
    parts = [ReplaySums.of(logged_from_table(table.slice(at, 200), COLUMNS), plan) for at in range(0, 1200, 200)]
    merged = parts[3].merge(parts[0], parts[5], parts[1].merge(parts[2], parts[4]))
    assert report_of(merged, plan) == cm.replay(table, COLUMNS)
    with pytest.raises(InputError, match="only sums of the same estimators"):
        parts[0].merge(ReplaySums.of(logged_from_table(table, COLUMNS), ReplayPlan(estimators=("ips",))))


def test_a_report_is_json_and_says_what_was_looked_at(tmp_path):
    report = cm.replay(lists(400), COLUMNS)
    report.write(tmp_path / "replay.json")
    assert ReplayReport.read(tmp_path / "replay.json") == report
    assert {each.stratum for each in report.strata if each.kind == "city"} == {"paris", "rome"}
    assert {each.kind for each in report.strata} == {"slot", "day", "city"}
    assert sum(report.weights[0].users) == report.users == 400 and {each.policy for each in report.diagnoses} == {
        "candidate",
        "baseline",
    }
    (tmp_path / "other.json").write_text('{"kind": "looks"}')
    with pytest.raises(InputError, match="is not the report of a replay"):
        ReplayReport.read(tmp_path / "other.json")


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"estimators": ("ipps",)}, "Did you mean `ips`"),
        ({"interval": "linear"}, "`linear` is not an interval. Did you mean `linearised`"),
        ({"planned": 100.0}, "`planned` belongs to a `sequence`"),
        ({"candidate": "baseline"}, "must be two policies"),
        ({"levle": 0.9}, "Did you mean `level`"),
    ],
)
def test_plans_that_cannot_be_made_are_refused(settings, said):
    with pytest.raises(SpecError, match=said):
        cm.replay(lists(10), COLUMNS, **settings)


def test_a_plan_stands_alone_and_its_policies_are_in_the_log():
    with pytest.raises(InputError, match="Received both, with `level`"):
        cm.replay(lists(10), COLUMNS, ReplayPlan(), level=0.9)
    with pytest.raises(InputError, match="the log has no policy `newer`. It has: candidate, baseline"):
        cm.replay(lists(10), COLUMNS, candidate="newer")
    with pytest.raises(InputError, match="`propensity_kind` must be `marginal` or `conditional`"):
        LogColumns({}, propensity_kind="joint")
    bad = lists(10).set_column(3, "p", pa.array([0.0] * 20))
    with pytest.raises(InputError, match=r"no request that can be used \(20 rows: the propensity does not lie"):
        cm.replay(bad, COLUMNS, exclude=True)
