"""Takes embedded by the exported model on raw examples are those that training validates on."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.catalogue import item_rows
from models.input_pipeline import InputConfig
from models.retrieval_training import embed_pairs, pairs_dataset
from models.training import TrainingConfig
from serving.retrieval_export import export_two_tower
from serving.retrieval_scoring import embed_takes
from tests.serving.test_retrieval_export import exported, two_tower

__all__ = ["exported"]


def takes_of(directory, raw, **options):
    return embed_takes(directory, raw, raw / "behaviors", "eval", "click", **options)


@pytest.mark.parametrize("history", ["attention", "none"])
def test_takes_equal_those_of_the_offline_model(small_log, raw_small_log, tmp_path, history):
    model = two_tower(small_log, history=history)
    directory = export_two_tower(model, small_log[1], tmp_path / "1")
    takes = takes_of(directory, raw_small_log, batch_requests=17)
    rows = item_rows(takes.item_ids, takes.taken_ids)
    config = TrainingConfig(input=InputConfig(batch_size=50))
    queries, truth, _ = embed_pairs(model, pairs_dataset(small_log[0], "eval", small_log[1], config))
    # Training leaves takes of items out that the catalogue does not hold.
    known = rows > 0
    assert not known.all() and known.sum() == len(queries) > 50
    np.testing.assert_array_equal(rows[known] - 1, truth)
    np.testing.assert_allclose(takes.queries[known], queries, atol=1e-5)
    np.testing.assert_allclose(takes.items, model.embed_corpus(), atol=1e-6)


def test_every_positive_is_a_take_in_the_order_of_the_files(exported, raw_small_log):
    takes = takes_of(exported[1], raw_small_log)
    expected = []
    for path in sorted(raw_small_log.glob("Split-eval/*.parquet")):
        for row in pq.read_table(path).to_pylist():
            expected += [item for item, click in zip(row["item_id"], row["click"], strict=True) if click > 0]
    assert takes.taken_ids.to_pylist() == expected and len(takes.queries) == len(expected)
    np.testing.assert_allclose(np.linalg.norm(takes.queries, axis=1), 1, atol=1e-5)


def test_what_is_missing_is_named(exported, raw_small_log, tmp_path):
    with pytest.raises(FileNotFoundError, match="Split-nowhere"):
        embed_takes(exported[1], raw_small_log, raw_small_log / "behaviors", "nowhere", "click")
    with pytest.raises(FileNotFoundError, match="no behaviours for the requests"):
        embed_takes(exported[1], raw_small_log, tmp_path, "eval", "click")
    with pytest.raises(FileNotFoundError, match="SavedModel"):
        takes_of(tmp_path, raw_small_log)
