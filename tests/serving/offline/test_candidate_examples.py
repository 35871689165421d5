"""Coarse examples: the log's impressions as they were, and weighed items that the two-tower finds beside them."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from features import storage
from features.arrow import read_parquet
from features.examples.config import CandidateSetConfig
from features.histories.windows import attach_histories, read_behaviors
from features.items.catalogue import read_catalogue
from models.inputs.input_pipeline import InputConfig, make_dataset
from models.inputs.item_corpus import ItemCorpus
from serving.export.coarse import export_coarse
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
from serving.export.two_tower import export_two_tower
from serving.offline.candidate_examples import make_coarse_examples
from serving.offline.scoring import score_examples
from serving.saved.two_tower import SavedTwoTower
from tests.builders.exact_top_k import exact_top_k
from tests.serving.export.test_coarse_export import coarse
from tests.serving.export.test_retrieval_export import two_tower

FOUND, DRAWN = 12, 3


@pytest.fixture(scope="module")
def made(small_log, raw_small_log, tmp_path_factory):
    work = tmp_path_factory.mktemp("coarse_examples")
    encoded, encoding = small_log
    retrieval = export_two_tower(two_tower(small_log), encoding, work / "two_tower" / "1")
    teacher = export_coarse(coarse(small_log), encoding, work / "teacher" / "1", ItemCorpus.load(*small_log))
    config = CandidateSetConfig(retrieve=FOUND, sample=DRAWN)
    where = (raw_small_log, raw_small_log / "behaviors", encoded, retrieval)
    totals = make_coarse_examples(*where, work / "with", config, teacher=teacher, splits=("train",))
    make_coarse_examples(*where, work / "again", config, splits=("train",))
    return {
        "with": work / "with",
        "again": work / "again",
        "two_tower": retrieval,
        "teacher": teacher,
        "totals": totals,
    }


def test_data_may_lie_anywhere(made, small_log, raw_small_log):
    """All that is read and written lies on `memory://`; the draws are those of the local files."""
    root = "memory://coarse_examples"
    for folder, name in ((raw_small_log, "raw"), (small_log[0], "encoded"), (made["two_tower"], "two_tower/1")):
        storage.copy_tree(folder, f"{root}/{name}")
    where = (f"{root}/raw", f"{root}/raw/behaviors", f"{root}/encoded", f"{root}/two_tower")
    make_coarse_examples(*where, f"{root}/out", CandidateSetConfig(retrieve=FOUND, sample=DRAWN), splits=("train",))
    written = {path.removeprefix(root + "/out/"): path for path in storage.files_under(f"{root}/out")}
    assert written.keys() == {str(path.relative_to(made["again"])) for path in made["again"].rglob("*.*")}
    for name, path in written.items():
        if name.startswith("Split-"):
            assert read_parquet(path).equals(pq.read_table(made["again"] / name))
        else:
            assert storage.read_bytes(path) == (made["again"] / name).read_bytes()
    storage.delete(root)


def tables(folder, split="train"):
    return [pq.read_table(path) for path in sorted(folder.glob(f"Split-{split}/*.parquet"))]


def kept(lists: pa.ListArray, keep: np.ndarray) -> list:
    values = lists.flatten().filter(pa.array(keep))
    return values.to_pylist()


def flat(table, name):
    return table[name].combine_chunks().flatten()


def test_impressions_are_as_they_were(made, small_log):
    originals, found = tables(small_log[0]), tables(made["with"])
    requests = impressions = added = 0
    for before, after in zip(originals, found, strict=True):
        source = flat(after, "_source").to_numpy()
        for name in before.column_names:
            if not pa.types.is_list(before[name].type) or name == "interests":
                assert after[name].equals(before[name])
            else:
                assert kept(after[name].combine_chunks(), source == 0) == flat(before, name).to_pylist()
        assert (flat(after, "_weight").to_numpy()[source == 0] == 1).all()
        # Impressions come first, in their order.
        lengths = pc.list_value_length(before["_item_id"]).to_numpy()
        assert [row[:n] for row, n in zip(after["_source"].to_pylist(), lengths, strict=True)] == [
            [0] * n for n in lengths
        ]
        requests += len(before)
        impressions += (source == 0).sum()
        added += (source == 1).sum()
    assert made["totals"] == {"requests": requests, "impressions": impressions, "added": added}
    assert added == requests * DRAWN


def test_other_files_are_the_same_files(made, small_log):
    names = {path.relative_to(small_log[0]) for path in small_log[0].rglob("*") if path.is_file()}
    assert names == {path.relative_to(made["with"]) for path in made["with"].rglob("*") if path.is_file()}
    for name in names:
        same = os.path.samefile(small_log[0] / name, made["with"] / name)
        assert same == (name.parts[0] != "Split-train")


def test_added_items_are_found_unshown_and_hold_the_catalogue_s_features(made, small_log, raw_small_log):
    encoded, encoding = small_log
    history, saved = encoding.spec.history, SavedTwoTower(made["two_tower"])
    _, embeddings = read_item_embeddings(f"{made['two_tower']}/{ITEM_EMBEDDINGS_FILE}")
    catalogue = read_catalogue(encoded)
    for path, after in zip(sorted(raw_small_log.glob("Split-train/*.parquet")), tables(made["with"]), strict=True):
        raw = attach_histories(pq.read_table(path), read_behaviors(raw_small_log / "behaviors", path, history), history)
        top = exact_top_k(saved.embed_users(raw), embeddings, FOUND)[0] + 1
        rows, sources = after["_item_row"].to_pylist(), after["_source"].to_pylist()
        weights = after["_weight"].to_pylist()
        for found, row, source, weight in zip(top, rows, sources, weights, strict=True):
            added = {r for r, s in zip(row, source, strict=True) if s}
            shown = set(row) - added
            pool = set(found.tolist()) - shown
            assert added <= pool and not added & shown
            assert sum(w for w, s in zip(weight, source, strict=True) if s) == pytest.approx(len(pool))
        new = flat(after, "_source").to_numpy() == 1
        take = pa.array(flat(after, "_item_row").to_numpy()[new].astype(np.int64) - 1)
        for name in ("_item_id", "item_id", "category", "title", "price"):
            assert kept(after[name].combine_chunks(), new) == catalogue[name].combine_chunks().take(take).to_pylist()
        assert set(kept(after["_label_click"].combine_chunks(), new)) == {0.0}
        assert set(kept(after["_position"].combine_chunks(), new)) == {-1}


def test_the_teacher_s_logits_are_its_own(made, raw_small_log):
    scored = score_examples(made["teacher"], raw_small_log, "train", behaviors_dir=raw_small_log / "behaviors")
    logits = np.concatenate([flat(table, "_teacher_logit").to_numpy() for table in tables(made["with"])])
    source = np.concatenate([flat(table, "_source").to_numpy() for table in tables(made["with"])])
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[source == 0])), scored["score"].to_numpy(), atol=1e-6)
    assert np.isfinite(logits).all() and logits[source == 1].std() > 0.01


def test_batches_bring_weights_sources_and_the_teacher(made, small_log):
    encoding = small_log[1]
    batch = next(iter(make_dataset(made["with"], "train", encoding, InputConfig(batch_size=10**6), histories=True)))
    assert batch["weight"].dtype == batch["teacher_logit"].dtype == "float32" and batch["source"].dtype == "int32"
    assert len(batch["weight"]) == len(batch["label"]) == len(batch["teacher_logit"]) == len(batch["item_row"])
    assert (batch["weight"].numpy()[batch["source"].numpy() == 0] == 1).all()
    assert (batch["position"].numpy() == -1).sum() == (batch["source"].numpy() == 1).sum() > 0
    again = next(iter(make_dataset(made["again"], "train", encoding, InputConfig(batch_size=10**6))))
    assert "teacher_logit" not in again
    np.testing.assert_array_equal(again["weight"], batch["weight"])  # the same seed draws the same items
    plain = next(iter(make_dataset(made["with"], "eval", encoding, InputConfig())))
    assert not {"weight", "source", "teacher_logit"} & set(plain)


def test_examples_that_do_not_belong_together_are_refused(made, small_log, raw_small_log, tmp_path):
    other = tmp_path / "raw"
    for path in sorted(raw_small_log.glob("*/*.parquet")):
        target = other / path.relative_to(raw_small_log)
        target.parent.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(path)
        pq.write_table(table.take(pa.array(np.arange(len(table))[::-1])) if "Split" in str(path) else table, target)
    with pytest.raises(ValueError, match="differ in order: encode them again"):
        make_coarse_examples(
            other, raw_small_log / "behaviors", small_log[0], made["two_tower"], tmp_path / "out", CandidateSetConfig()
        )
