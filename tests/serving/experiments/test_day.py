"""A day of all explorers: logged, ingested by LogIngest without a loss, and replayed to its known values."""

import numpy as np
import pytest

from evaluation.replay.experiment.sample_ratio import sample_ratio
from evaluation.replay.policies.list_policy import ranked
from tests.serving.experiments.day import (
    CONFIG,
    DEVIATIONS,
    SLOTS,
    ingest_day,
    logits_at,
    requests,
    value_and_interval,
    write_day,
)

REQUESTS = 4000
#: Lists of the hour that every explorer may show.
TARGETS = {
    "epsilon": lambda hour: ranked(logits_at(hour))[3::-1],
    "plackett_luce": lambda hour: ranked(logits_at(hour))[3::-1],
    "thompson": lambda hour: ranked(logits_at(hour) + 2.0 * DEVIATIONS[:, 3])[:SLOTS],
}


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """The account of LogIngest, its examples, and what was logged by request."""
    folder = tmp_path_factory.mktemp("day")
    write_day(folder, REQUESTS, part_rows=5000)
    counts, examples = ingest_day(folder)
    return counts, examples, {shown.request_id: shown for shown, _ in requests(REQUESTS, 0)}


def test_nothing_of_a_day_is_lost_and_propensities_arrive_as_they_were_logged(day):
    counts, examples, logged = day
    account = counts.tables["impressions"]
    assert account.rows_in == account.kept == REQUESTS * SLOTS
    assert sum(each.dead_letters for each in counts.tables.values()) == 0
    assert len(examples) == REQUESTS
    for row in examples:
        shown = logged[row["request_id"]]
        assert row["item_id"] == list(shown.items) and row["position"] == list(range(SLOTS))
        assert row["propensity"] == list(shown.propensities) and row["user_id"] == str(shown.user)
        assert row["hour"] == shown.context["hour"]
    assert {shown.policy.partition("(")[0] for shown in logged.values()} == {"greedy", *TARGETS}


@pytest.mark.parametrize("policy", TARGETS)
def test_inverse_propensities_give_the_known_value(day, policy):
    _, examples, logged = day
    rows = [row for row in examples if logged[row["request_id"]].policy.startswith(policy)]
    known, found, error = value_and_interval(rows, TARGETS[policy])
    assert len(rows) > REQUESTS / 5 and abs(found - known) < 3.3 * error and error < 0.5 * known
    without = [row | {"propensity": [1.0] * SLOTS} for row in rows]
    known, found, error = value_and_interval(without, TARGETS[policy])
    assert abs(found - known) > 5 * error


def test_users_arrive_in_their_variants_as_the_shares_say(day):
    _, _, logged = day
    for layer in CONFIG.layers:
        users = {shown.user: shown.variants[layer.name] for shown in logged.values()}
        counts = {name: list(users.values()).count(name) for name in layer.shares}
        assert not sample_ratio(counts, layer.shares).mismatch
    canary = [shown.release == "canary" for shown in logged.values()]
    assert 0.4 < np.mean(canary) < 0.6
    assert all((s.release == "canary") == (s.variants["ranker"] == "new") for s in logged.values())
