"""Policies of a run's log and of tables of impressions: columns, verdicts, and bad input that is said or counted."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from evaluation.replay.log_table import LogColumns
from evaluation.replay.policies.registry import make_policy
from evaluation.replay.verdicts.looks import LookError
from evaluation.replay.verdicts.replay_report import ReplayPlan, ReplayReport
from features.errors import InputError, NotFoundError
from pipeline.cli import app as cli
from serving.offline.replay import replay_logs as replays
from serving.offline.replay.log_files import RawLogs, find_raw_logs, impressions_of
from serving.offline.replay.policy_columns import score_logs
from serving.offline.replay.replay_logs import ReplayPolicies, parse_reward, replay_logs
from serving.offline.replay.scorers import ScoredRequest
from serving.offline.replay.sources import PolicySource, check_catalogues

FIRST = LogColumns(policies={}, reward="click", propensity_kind="conditional", slots=2, item="item_id")


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Raw examples of 40 requests, of two to four items of twelve; conditionals of a uniform logger."""
    rng, rows = np.random.default_rng(5), []
    for number in range(40):
        shown = int(rng.integers(2, 5))
        row = {"request_id": f"r{number}", "timestamp": 1_700_000_000_000 + number, "user_id": f"u{number % 9}"}
        row |= {"history_end": 0, "user_index": -1, "city": "rome", "item_id": rng.permutation(12)[:shown].tolist()}
        row |= {"position": list(range(shown)), "propensity": [1 / (12 - slot) for slot in range(shown)]}
        rows.append(row | {"click": (rng.random(shown) < 0.4).astype(float).tolist(), "title": [["a", "b"]] * shown})
    folder = tmp_path_factory.mktemp("raw")
    (folder / "Split-eval").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "Split-eval" / "requests-00000-of-00001.parquet")
    return find_raw_logs(folder, "eval")


@pytest.fixture(scope="module")
def batch(logs):
    return next(iter(logs.batches()))


def source(scorer, policy="top"):
    return PolicySource("a model", policy=make_policy(policy), scorer=scorer)


class Fixed:
    """A scorer that fails on one request, of a log whose every item is known to it."""

    history = None
    slots = None

    def __init__(self, items=None, fails=None, nan=None):
        self.items, self._fails, self._nan = items, fails, nan

    def __call__(self, row):
        key = row["request_id"][0].as_py()
        if key == self._fails:
            raise KeyError("a table is gone")
        count = len(row["item_id"][0])
        logits = np.linspace(1, 0, count) * (np.nan if key == self._nan else 1)
        return ScoredRequest(logits, 1 / (1 + np.exp(-logits)), np.arange(count), np.full(count, 0.5))


def both(scorer, policy="plackett_luce@1"):
    return {"candidate": source(scorer, policy), "baseline": PolicySource("logged", column="propensity")}


@pytest.mark.parametrize("how", [{"fails": True}, {"nan": True}])
def test_a_policy_that_fails_on_one_request_is_said_or_counted(logs, batch, how):
    key = batch.requests["request_id"][3].as_py()
    scorer = Fixed(**dict.fromkeys(how, key))
    with pytest.raises(InputError, match=rf"policy `candidate` \(a model\) fails on request '{key}': .*`exclude`"):
        score_logs(logs, both(scorer), FIRST)
    found = score_logs(logs, both(scorer), FIRST, exclude=True)
    report = replays.replay(found.table, found.columns, exclude=True)
    assert (
        list(report.excluded)[0]
        == "the conditional propensity of policy `candidate` is missing or does not lie in [0, 1]"
    )
    assert set(report.excluded.values()) == {2} and report.requests == logs.num_requests - 1


def test_columns_of_policies_are_those_of_the_log(logs):
    """A Plackett-Luce candidate over what was shown, beside its own formula, in every slot that is read."""
    found = score_logs(logs, both(Fixed()), FIRST)
    first = found.table.slice(0, 2).to_pydict()
    count = next(iter(logs.batches())).requests["item_id"][0]
    rates = np.exp(np.linspace(1, 0, len(count)))
    assert first["candidate.conditional"] == pytest.approx([rates[0] / rates.sum(), rates[1] / rates[1:].sum()])
    assert first["position"] == [0, 1] and first["candidate.q_logged"] == [0.5, 0.5]
    assert found.columns.policies == {"candidate": "candidate.conditional", "baseline": "propensity"}
    report = replays.replay(found.table, found.columns)
    values = {each.estimator: each.baseline_value.value for each in report.comparisons}
    clicks = np.mean(found.table["click"].to_numpy())
    assert values["dr"] == pytest.approx(clicks) and values["snips"] == pytest.approx(clicks)


def test_policies_of_different_catalogues_are_refused_or_items_of_one_alone_left_out(logs):
    items = pa.array(
        sorted({item for b in logs.batches() for row in b.requests["item_id"].to_pylist() for item in row})
    )
    sources = {"candidate": source(Fixed(items)), "baseline": source(Fixed(items.slice(1)))}
    with pytest.raises(InputError, match="catalogues differ: `candidate` has .* in both"):
        check_catalogues(sources, exclude=False)
    shared = check_catalogues(sources, exclude=True)
    assert set(shared) == set(items.slice(1).to_pylist())
    found = score_logs(logs, sources, FIRST)
    known = shared[: 2 * len(shared) // 3]
    with pytest.raises(InputError, match="the item is not in the catalogue"):
        replays.replay(found.table, found.columns, items=known)
    report = replays.replay(found.table, found.columns, items=known, exclude=True)
    ids = found.table["item_id"].to_pylist()
    assert report.excluded == {"the item is not in the catalogue": sum(each not in known for each in ids)}


def test_a_request_that_was_logged_twice_is_said_or_left_out(logs, tmp_path):
    requests = next(iter(logs.batches())).requests
    (tmp_path / "Split-eval").mkdir()
    twice = pa.concat_tables([requests, requests.slice(5, 1)])
    pq.write_table(twice, tmp_path / "Split-eval" / "requests-00000-of-00001.parquet")
    found = score_logs(find_raw_logs(tmp_path, "eval"), both(Fixed()), FIRST, exclude=True)
    with pytest.raises(InputError, match="of request 'r5'"):
        replays.replay(found.table, found.columns)
    report = replays.replay(found.table, found.columns, exclude=True)
    assert report.requests == len(requests) - 1 and report.excluded["a request has a slot twice"] == 2


@pytest.fixture(scope="module")
def impressions(logs):
    """A table of impressions with a candidate's column."""
    table = impressions_of(next(iter(logs.batches())).requests)
    table = table.filter(pa.array(table["position"].to_numpy() == 0))
    return table.append_column("p_new", table["propensity"])


FIRST_SLOT = ("--slots", "1")


def replayed(impressions, folder, change=None, *more):
    pq.write_table(impressions if change is None else change, folder / "log.parquet")
    words = [
        "replay",
        "--logs",
        str(folder / "log.parquet"),
        "--candidate",
        "column:p_new",
        "--out",
        str(folder / "out"),
    ]
    return CliRunner().invoke(cli.app, [*words, *more])


def test_the_command_compares_columns_and_counts_its_look(impressions, tmp_path):
    done = replayed(impressions, tmp_path, None, "--json", *FIRST_SLOT)
    assert done.exit_code in (3, 5), done.output
    report = ReplayReport.read(tmp_path / "out" / "replay.json")
    assert json.loads(done.stdout)["version"] == 1 == report.version and done.exit_code == 5
    assert report.outcome == "withheld" and report.comparisons[0].difference.value == 0
    assert report.plan.described == {"candidate": "column:p_new", "baseline": "logged"}
    again = replayed(impressions, tmp_path, None, *FIRST_SLOT)
    assert again.exit_code == 5 and "verdict: withheld" in again.stdout
    second = replayed(impressions, tmp_path, impressions.slice(3), *FIRST_SLOT)
    assert second.exit_code == 2 and "holds for one look" in second.stderr


def test_what_propensities_of_lists_are_must_be_said(impressions, tmp_path):
    refused = replayed(impressions, tmp_path, None, "--json")
    assert refused.exit_code == 2 and "--propensities marginal or conditional?" in refused.stderr
    for said in (("--propensities", "conditional"), ("--column", "slot=none")):
        folder = tmp_path / said[0].strip("-")
        folder.mkdir()
        assert replayed(impressions, folder, None, *said).exit_code == 5, said


FAULTS = {
    "propensity": [0.0, "does not lie in (0, 1]"],
    "p_new": [1.5, "does not lie in [0, 1]"],
    "click": [None, "the reward is missing"],
}


@pytest.mark.parametrize("column", FAULTS)
def test_a_faulty_row_is_said_or_counted_by_the_command(impressions, tmp_path, column):
    value, said = FAULTS[column]
    values = [value, *impressions[column].to_pylist()[1:]]
    place = impressions.schema.get_field_index(column)
    bad = impressions.set_column(place, column, pa.array(values, impressions[column].type))
    done = replayed(impressions, tmp_path, bad, *FIRST_SLOT)
    assert done.exit_code == 2 and said in done.stderr
    assert replayed(impressions, tmp_path, bad, "--exclude", *FIRST_SLOT).exit_code == 5
    report = ReplayReport.read(tmp_path / "out" / "replay.json")
    assert list(report.excluded.values()) == [1] and report.rows == len(impressions) - 1


def test_what_cannot_be_replayed_is_said(impressions, logs, tmp_path):
    pq.write_table(impressions, tmp_path / "log.parquet")
    log, columns = [str(tmp_path / "log.parquet")], LogColumns(policies={}, reward="click")
    with pytest.raises(InputError, match="latest scores requests, and .* holds none"):
        replay_logs(log, ReplayPolicies("latest"), columns)
    with pytest.raises(InputError, match="the log has no column `nothing`"):
        replay_logs(log, ReplayPolicies("column:nothing"), columns)
    with pytest.raises(NotFoundError, match="has no label|holds no release|no release"):
        policies = ReplayPolicies("stable", root=str(tmp_path))
        replay_logs([logs.examples_dir], policies, columns, split="eval")
    with pytest.raises(NotFoundError, match="no table there"):
        replay_logs([str(tmp_path / "none")], ReplayPolicies("column:p_new"), columns)
    looks = str(tmp_path / "looks.json")
    plan = ReplayPlan(interval="sequence", planned=1000)
    replay_logs(log, ReplayPolicies("column:p_new"), columns, plan, looks=looks)
    with pytest.raises(LookError, match="begun with `sequence`"):
        replay_logs(log, ReplayPolicies("column:p_new"), columns, looks=looks)


def test_the_logs_of_a_run_are_its_newest_ingestion(tmp_path):
    for version in ("2", "10"):
        (tmp_path / "artifacts" / "LogIngest" / "examples" / version / "Split-test").mkdir(parents=True)
    found = find_raw_logs(tmp_path, "test")
    assert isinstance(found, RawLogs) and found.examples_dir.endswith("examples/10")
    assert found.behaviors_dir.endswith("behaviors/10") and find_raw_logs(tmp_path / "artifacts", "test") is None


def test_a_reward_is_a_column_or_a_sum():
    assert parse_reward("click") == "click"
    assert parse_reward("click + 5 * order") == {"click": 1.0, "order": 5.0}
    for text in ("", "click +", "x * order", "5"):
        if text == "5":
            continue
        with pytest.raises(InputError, match="a reward is a column"):
            parse_reward(text)
