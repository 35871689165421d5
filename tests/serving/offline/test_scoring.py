import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import storage
from serving.offline.scoring import score_examples
from tests.builders.small_ranker import SPEC, offline_logits


def read_split(raw_examples_dir, split):
    return pa.concat_tables([pq.read_table(path) for path in sorted((raw_examples_dir / f"Split-{split}").iterdir())])


def test_one_row_a_candidate_with_its_score(base_dir, raw_examples_dir, model, encoding):
    raw = read_split(raw_examples_dir, "eval")
    table = score_examples(
        base_dir, raw_examples_dir, "eval", ("age_band", "price", "tags", "item_id"), batch_requests=17
    )
    assert table.column_names == [
        *("request_id", "user_id", "item_id", "timestamp", "position", "label", "score", "history_end"),
        *("age_band", "price", "tags"),
    ]
    expected = 1 / (1 + np.exp(-offline_logits(model, encoding, raw).astype(np.float64)))
    np.testing.assert_allclose(table["score"].to_numpy(), expected, rtol=0, atol=1e-6)
    assert table.schema.field("label").type == table.schema.field("score").type == pa.float32()
    rows = raw.to_pylist()
    for name in ("request_id", "user_id", "timestamp", "history_end", "age_band"):
        assert table[name].to_pylist() == [row[name] for row in rows for _ in row["item_id"]], name
    for name, column in (("item_id", "item_id"), ("position", "position"), ("label", "click"), ("tags", "tags")):
        assert table[name].to_pylist() == [value for row in rows for value in row[column]], name


def test_examples_and_model_may_lie_anywhere(base_dir, raw_examples_dir):
    storage.copy_tree(raw_examples_dir, "memory://scoring/examples")
    storage.copy_tree(base_dir, "memory://scoring/models")
    here = score_examples(base_dir, raw_examples_dir, "eval", ["tags"])
    there = score_examples("memory://scoring/models", "memory://scoring/examples", "eval", ["tags"])
    storage.delete("memory://scoring")
    assert there.drop(["score"]).equals(here.drop(["score"]))
    np.testing.assert_allclose(there["score"].to_numpy(), here["score"].to_numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_requests", [1, 1000])
def test_batches_do_not_change_scores(base_dir, raw_examples_dir, batch_requests):
    reference = score_examples(base_dir, raw_examples_dir, "eval", batch_requests=32)
    table = score_examples(base_dir, raw_examples_dir, "eval", batch_requests=batch_requests)
    assert table.drop(["score"]).equals(reference.drop(["score"]))
    np.testing.assert_allclose(table["score"].to_numpy(), reference["score"].to_numpy(), rtol=0, atol=1e-6)


def test_an_empty_shard_adds_nothing(base_dir, raw_examples_dir, tmp_path):
    raw = read_split(raw_examples_dir, "eval")
    for split, shards in (("some", (raw.slice(0, 0), raw.slice(3, 5))), ("none", (raw.slice(0, 0),))):
        (tmp_path / f"Split-{split}").mkdir()
        for number, shard in enumerate(shards):
            pq.write_table(shard, tmp_path / f"Split-{split}" / f"requests-{number:05d}-of-{len(shards):05d}.parquet")
    some = score_examples(base_dir, tmp_path, "some", ["tags"])
    assert some.num_rows == sum(len(row["item_id"]) for row in raw.slice(3, 5).to_pylist()) > 0
    none = score_examples(base_dir, tmp_path, "none", ["tags"])
    assert none.num_rows == 0 and none.schema.equals(some.schema)


def test_what_is_missing_is_named(base_dir, raw_examples_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="split `test`.*Splits there: eval, train"):
        score_examples(base_dir, raw_examples_dir, "test")
    with pytest.raises(
        ValueError, match="slice feature `age_bnd` is not a feature of the model. Did you mean `age_band`"
    ):
        score_examples(base_dir, raw_examples_dir, "eval", ["age_bnd"])
    raw = read_split(raw_examples_dir, "eval").drop([SPEC.label])
    (tmp_path / "Split-eval").mkdir()
    pq.write_table(raw, tmp_path / "Split-eval" / "requests-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="has no column `click`"):
        score_examples(base_dir, tmp_path, "eval")
