"""Releases and rankers as policies: they rank what they serve, and know what they think of what was shown."""

import numpy as np
import pyarrow as pa
import pytest

from evaluation.replay.policies.registry import make_policy
from serving.offline.replay.log_files import find_raw_logs
from serving.offline.replay.scorers import CascadeScorer, RankerScorer
from tests.builders import cascade_example


@pytest.fixture(scope="module")
def cascade(cascade_work):
    return cascade_example.load(cascade_work, cascade_example.DotProductCoarse(cascade_work / "two_tower" / "1", -1.0))


@pytest.fixture(scope="module")
def batch(cascade_work):
    found = find_raw_logs(cascade_work / "raw" / "examples", "eval", cascade_work / "raw" / "behaviors")
    return next(iter(found.batches()))


def test_a_cascade_ranks_what_it_recommends(cascade, batch):
    scorer, policy = CascadeScorer(cascade), make_policy("top")
    table = batch.with_windows(scorer.history, {}).slice(0, 8)
    for row in (table.slice(at, 1) for at in range(len(table))):
        scored = scorer(row)
        listed = cascade.recommend_row(row)
        order = policy.draw(scored.logits, cascade.config.top_k, np.random.default_rng(0))
        np.testing.assert_allclose(scored.logits[order], [item.logit for item in listed], atol=1e-5)
        np.testing.assert_allclose(scored.probability[order], [item.score for item in listed], atol=1e-6)
        assert (
            len(scored.place) == len(scored.q_logged) == len(row["item_id"][0]) and np.isfinite(scored.q_logged).all()
        )
        known = scored.place >= 0
        np.testing.assert_allclose(scored.q_logged[known], scored.probability[scored.place[known]], atol=1e-6)


def test_the_places_of_logged_items_are_theirs(cascade, batch):
    """A log that showed what the cascade lists: `top` would have shown it for certain, in these slots alone."""
    scorer = CascadeScorer(cascade)
    row = batch.with_windows(scorer.history, {}).slice(0, 1)
    ids = [item.item_id for item in cascade.recommend_row(row)]
    shown = row.set_column(
        row.schema.get_field_index("item_id"), "item_id", pa.array([[*ids, -5]], row["item_id"].type)
    )
    scored = scorer(shown)
    order = make_policy("top").draw(scored.logits, len(ids), np.random.default_rng(0))
    assert scored.place[:-1].tolist() == order.tolist() and scored.place[-1] == -1 and np.isnan(scored.q_logged[-1])


def test_a_bare_ranker_orders_anew_what_was_shown(cascade_work, batch):
    scorer = RankerScorer(cascade_work / "autoint")
    row = batch.with_windows(scorer.history, {}).slice(0, 1)
    scored = scorer(row)
    assert scored.place.tolist() == list(range(len(row["item_id"][0]))) and scorer.slots is None
    np.testing.assert_allclose(scored.q_logged, 1 / (1 + np.exp(-scored.logits)), rtol=1e-5)
