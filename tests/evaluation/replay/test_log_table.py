"""Logs from Arrow tables: rows in any order, rewards of several labels, and every fault refused or counted."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from evaluation.replay.log_table import LogColumns, logged_from_table
from features.errors import InputError

COLUMNS = LogColumns({"new": "p_new"}, item="item_id")
GOOD = {
    "user_id": ["u", "u", "v", "v"],
    "request_id": [9, 9, 4, 4],
    "position": [1, 0, 0, 1],
    "item_id": ["a", "b", "a", "c"],
    "label": [1, 0, 0, 1],
    "propensity": [0.5, 0.25, 1.0, 0.2],
    "p_new": [0.25, 0.5, 0.0, 0.2],
}


def table(**changes):
    return pa.table(GOOD | changes)


def test_rows_are_put_in_order():
    log = logged_from_table(table(), COLUMNS)
    assert log.request.tolist() == [4, 4, 9, 9] and log.slot.tolist() == [0, 1, 0, 1]
    assert log.reward.tolist() == [0, 1, 0, 1] and log.weights["new"].tolist() == [0, 1, 2, 0.5]
    assert log.user[0] == log.user[1] != log.user[2] == log.user[3] and not log.excluded


def test_a_reward_is_a_weighted_sum_of_labels():
    log = logged_from_table(table(price=[10.0, 20, 30, 40]), replace(COLUMNS, reward={"label": 2.0, "price": 0.1}))
    assert log.reward.tolist() == [3, 6, 2, 3]


def test_optional_columns_come_along():
    placed, q = [[0.5, 0.5], [0.1, 0.9], [1, 0], [0, 1]], [0.1, 0.2, 0.3, 0.4]
    columns = replace(
        COLUMNS,
        optional={"placements": {"new": "placed"}, "q_logged": {"new": "q"}},
        logger_placements="placed",
        behavior="position",
    )
    log = logged_from_table(table(placed=placed, q=q), columns)
    assert log.placements["new"].tolist() == [[1, 0], [0, 1], [0.1, 0.9], [0.5, 0.5]]
    assert log.q_logged["new"].tolist() == [0.3, 0.4, 0.2, 0.1] and log.behavior.tolist() == [0, 1, 0, 1]


def test_without_slots_every_row_is_a_list():
    columns = replace(COLUMNS, slot=None, request="position", item=None)
    log = logged_from_table(table(position=[3, 1, 2, 0]), columns)
    assert log.slot.tolist() == [0] * 4 and log.first_of_request.all()


FAULTS = {
    "the propensity is missing": {"propensity": [None, 0.5, 1.0, 0.2]},
    "the propensity does not lie in (0, 1]": {"propensity": [0.0, 1.5, 1.0, 0.2]},
    "the reward is missing": {"label": [None, 0, 0, 1]},
    "the slot is missing or negative": {"position": [None, 0, 0, 1]},
    "policy `new` has no propensity": {"p_new": [None, 0.5, 0.0, 0.2]},
    "the propensity of policy `new` does not lie in [0, 1]": {"p_new": [1.1, 0.5, 0.0, 0.2]},
    "the item is not in the catalogue": {"item_id": ["z", "b", "a", "c"]},
    "a request has an item twice": {"item_id": ["b", "b", "a", "c"]},
    "a request has a slot twice": {"position": [0, 0, 0, 1]},
    "a request has two users": {"user_id": ["u", "v", "v", "v"]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_or_left_out_with_their_request(fault):
    bad = table(**FAULTS[fault])
    with pytest.raises(InputError) as refused:
        logged_from_table(bad, COLUMNS, items=["a", "b", "c"])
    assert str(refused.value).startswith(fault) and "of request 9" in str(refused.value)
    log = logged_from_table(bad, COLUMNS, items=["a", "b", "c"], exclude=True)
    assert log.request.tolist() == [4, 4] and list(log.excluded) == [fault]
    assert log.excluded[fault] == (2 if "(0, 1]" in fault else 1)


@pytest.mark.parametrize(
    "changes, columns, message",
    [
        ({}, replace(COLUMNS, propensity="score"), "the log has no column `score`"),
        ({"label": ["yes", "no", "no", "yes"]}, COLUMNS, "`label` must hold numbers"),
        ({"user_id": [None, "u", "v", "v"]}, COLUMNS, "`user_id` is missing in 1 rows"),
        ({}, replace(COLUMNS, optional={"q": {"new": "p_new"}}), "`q` is not an optional column"),
        ({"placed": [[1.0], [1.0, 0.0], [1.0], [1.0]]}, replace(COLUMNS, logger_placements="placed"), "for each slot"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(changes, columns, message):
    with pytest.raises(InputError, match=message):
        logged_from_table(table(**changes), columns)


def test_keys_are_kept_where_they_are_integers_and_equal_in_every_part():
    first, second = (logged_from_table(table().slice(at, 2), COLUMNS) for at in (0, 2))
    whole = logged_from_table(table(), COLUMNS)
    assert np.array_equal(np.concatenate([second.user, first.user]), whole.user)
    assert set(logged_from_table(table(user_id=[7, 7, 8, 8]), COLUMNS).user) == {7, 8}
