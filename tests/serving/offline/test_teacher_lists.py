"""Teacher lists: the fine ranker's own logits, of drawn requests and items, and students that learn its order."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from features import storage
from features.encoding.feature_encoding import FeatureEncoding
from features.examples.shards import list_shards
from features.examples.teacher_list_files import TeacherListsConfig, draw_items, read_lists
from features.histories.windows import attach_histories, read_behaviors
from features.items.catalogue import read_catalogue
from models.hcn.model import Hcn, HcnConfig
from models.inputs.input_pipeline import InputConfig, make_list_dataset
from models.inputs.item_corpus import ItemCorpus
from models.training.coarse_stage import train_hcn
from models.training.list_distillation import ListDistillation, kept_share, train_by_lists
from models.training.loop import TrainingConfig
from models.training.optimizers import OptimizerConfig
from models.two_tower.model import TwoTower, TwoTowerConfig
from serving.offline.teacher_scoring import make_teacher_lists
from serving.ranker import Ranker
from serving.requests.item_catalogue import ItemCatalogue

CONFIG = TeacherListsConfig(requests=50, group=8, uniform=60, retrieved=40, retrieve=30, seed=3)


@pytest.fixture(scope="module")
def made(cascade_work, tmp_path_factory):
    output, encoded = tmp_path_factory.mktemp("teacher_lists"), cascade_work / "encoded"
    return {
        "work": cascade_work,
        "encoded": encoded,
        "encoding": FeatureEncoding.load(cascade_work / "encoding"),
        "lists": output,
        "totals": make(cascade_work, encoded, output),
    }


def make(work, encoded, output, config=CONFIG):
    raw = work / "raw"
    models = (work / "two_tower" / "1", work / "autoint")
    return make_teacher_lists(raw / "examples", raw / "behaviors", encoded, *models, output, config)


def test_data_may_lie_anywhere(made):
    """All that is read and written lies on `memory://`; the draws are those of the local files."""
    root = "memory://teacher_lists"
    for name in ("raw", "encoded", "two_tower", "autoint"):
        storage.copy_tree(made["work"] / name, f"{root}/{name}")
    where = [f"{root}/{name}" for name in ("raw/examples", "raw/behaviors", "encoded", "two_tower", "autoint", "out")]
    assert make_teacher_lists(*where, CONFIG) == made["totals"]
    for split in ("train", "eval"):
        for here, there in zip(*(read_lists(folder, split) for folder in (made["lists"], where[-1])), strict=True):
            np.testing.assert_array_equal(here.item_rows, there.item_rows)
            np.testing.assert_allclose(here.logits, there.logits, atol=1e-5)
    names = [path.removeprefix(where[-1]) for path in storage.files_under(where[-1])]
    lists = str(made["lists"])
    assert names == [path.removeprefix(lists) for path in storage.files_under(lists)]
    storage.delete(root)


def test_every_drawn_request_has_one_list_of_distinct_items(made):
    lists = {split: read_lists(made["lists"], split) for split in ("train", "eval")}
    items = len(read_catalogue(made["encoded"]))
    for split, count in (("train", 50), ("eval", 5)):
        places = np.concatenate([each.requests for each in lists[split]])
        np.testing.assert_array_equal(np.sort(places), np.arange(count))
        for each in lists[split]:
            assert each.logits.shape == (len(each.requests), len(each.item_rows)) and len(each.requests) <= 8
            assert len(np.unique(each.item_rows)) == len(each.item_rows) > 60
            assert each.item_rows.min() >= 1 and each.item_rows.max() <= items
    scored = sum(each.logits.size for group in lists.values() for each in group)
    assert made["totals"] == {"requests": 55, "scored": scored}


def test_logits_are_the_teacher_s_of_those_requests_and_items(made):
    work, encoding = made["work"], made["encoding"]
    raw_dir, teacher = work / "raw" / "examples", Ranker(work / "autoint")
    catalogue = ItemCatalogue.load(raw_dir / "catalogue" / "items.parquet", teacher.spec)
    ids = np.concatenate([pq.read_table(p)["_request_id"].to_numpy() for p in list_shards(made["lists"], "train")])
    raw = {}
    for path in list_shards(raw_dir, "train"):
        table = attach_histories(
            pq.read_table(path),
            read_behaviors(work / "raw" / "behaviors", path, encoding.spec.history),
            encoding.spec.history,
        )
        raw |= {request: table.slice(i, 1) for i, request in enumerate(table["request_id"].to_pylist())}
    each = read_lists(made["lists"], "train")[1]
    for place, logits in zip(each.requests[:3], each.logits, strict=False):
        expected = teacher.score_items(raw[ids[place]], catalogue.tensors(each.item_rows - 1))["logit"]
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert each.logits.std(axis=0).min() > 0  # requests differ, items too
    assert each.logits.std(axis=1).min() > 0


def test_the_same_seed_makes_the_same_lists_and_another_does_not(made, tmp_path):
    make(made["work"], made["encoded"], tmp_path / "again")
    make(made["work"], made["encoded"], tmp_path / "other", CONFIG.model_copy(update={"seed": 4}))
    first, again, other = (
        read_lists(folder, "train") for folder in (made["lists"], *(tmp_path / n for n in ("again", "other")))
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.requests, two.requests)
        np.testing.assert_array_equal(one.item_rows, two.item_rows)
        np.testing.assert_allclose(one.logits, two.logits, atol=1e-5)
    assert any(not np.array_equal(one.item_rows, two.item_rows) for one, two in zip(first, other, strict=True))


def test_behaviours_and_catalogue_are_the_same_files(made):
    for name in ("behaviors", "catalogue"):
        for path in (made["encoded"] / name).iterdir():
            assert os.path.samefile(path, made["lists"] / name / path.name)


def test_items_are_drawn_from_all_and_from_what_is_retrieved():
    rng, config = np.random.default_rng(0), TeacherListsConfig(group=4, uniform=50, retrieved=40)
    retrieved = np.stack([np.arange(901 + 20 * i, 921 + 20 * i) for i in range(4)])
    drawn = [draw_items(retrieved, 1000, config, rng) for _ in range(400)]
    counts = np.bincount(np.concatenate(drawn), minlength=1001)[1:]
    # An item that nobody retrieves is drawn at 50 / 1000; a retrieved one at 1 - (1 - 0.05)(1 - 10 / 20).
    assert abs(counts[:900].mean() / 400 - 0.05) < 0.003
    assert abs(counts[900:980].mean() / 400 - 0.525) < 0.02
    assert len(draw_items(retrieved[:, :3], 10, TeacherListsConfig(uniform=50, retrieved=400), rng)) <= 22
    alone = draw_items(retrieved, 1000, TeacherListsConfig(uniform=50, retrieved=0), rng)
    assert len(alone) == 50


def test_batches_hold_the_requests_of_their_list(made):
    encoding = made["encoding"]
    lists = read_lists(made["lists"], "train")
    ids = np.concatenate([pq.read_table(p)["_item_id"].to_numpy() for p in list_shards(made["lists"], "train")])
    batches = list(make_list_dataset(made["lists"], "train", encoding, InputConfig()))
    for batch, each in zip(batches, lists, strict=True):
        np.testing.assert_array_equal(batch["list_item"], each.item_rows)
        np.testing.assert_array_equal(batch["list_logit"], each.logits)
        sizes = np.bincount(batch["request_index"].numpy(), minlength=len(each.requests))
        assert sizes.tolist() == [len(ids[place]) for place in each.requests]
        assert batch["history"]["short_length"].shape[0] == len(each.requests)
    shuffled = list(make_list_dataset(made["lists"], "train", encoding, InputConfig(), shuffle=True, seed=1, epoch=1))
    assert sorted(b["list_item"].numpy().tolist() for b in shuffled) == sorted(
        b["list_item"].numpy().tolist() for b in batches
    )
    assert [len(b["list_item"]) for b in shuffled] != [len(b["list_item"]) for b in batches]


class _Fixed:
    """A student whose logits are given."""

    def __init__(self, logits):
        self._logits = tf.Variable(logits)

    def score_items(self, batch, items):
        return self._logits


def test_the_loss_is_the_divergence_of_both_softmaxes(made):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 3, 7)).astype(np.float32)
    corpus = ItemCorpus.load(made["encoded"], made["encoding"])
    batch = {"list_item": tf.range(1, 8), "list_logit": tf.constant(teacher)}
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (teacher, student))
    listed = (p * np.log(p / q)).sum(axis=1).mean()
    s, t = 1 / (1 + np.exp(-teacher)), 1 / (1 + np.exp(-student))
    single = (s * np.log(s / t) + (1 - s) * np.log((1 - s) / (1 - t))).mean()
    loss = ListDistillation(_Fixed(student), corpus).compute_loss(batch)
    np.testing.assert_allclose(loss, listed, rtol=1e-5)
    calibrated = ListDistillation(_Fixed(student), corpus, calibration=2.0)
    np.testing.assert_allclose(calibrated.compute_loss(batch), listed + 2 * single, rtol=1e-5)
    shifted = ListDistillation(_Fixed(teacher + np.array([[1.0], [-2.0], [3.0]], np.float32)), corpus)
    assert abs(float(shifted.compute_loss(batch))) < 1e-6  # what a request adds to all its items is not seen
    with pytest.raises(ValueError, match="`calibration` must not be negative"):
        ListDistillation(_Fixed(student), corpus, calibration=-1.0)


def test_kept_share_by_hand():
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    teacher = logit(np.array([[0.8, 0.4, 0.2, 0.1]]))
    student = np.array([[0.0, 3.0, 2.0, 1.0]])  # passes on the second and the third
    np.testing.assert_allclose(kept_share(teacher, student, top_k=2, share=0.5), (0.4 + 0.2) / (0.8 + 0.4))
    np.testing.assert_allclose(kept_share(teacher, teacher, top_k=2, share=0.5), 1.0)


@pytest.mark.parametrize("kind", ["two_tower", "hcn"])
def test_students_learn_the_teacher_s_order(made, tmp_path, kind):
    encoding = made["encoding"]
    corpus = ItemCorpus.load(made["encoded"], encoding)

    def student():
        if kind == "two_tower":
            return TwoTower(encoding, corpus, TwoTowerConfig(log_q="none", output_dim=16))
        return Hcn(encoding, HcnConfig(dim=16, hidden_units=(16,), num_layers=2))

    config = TrainingConfig(epochs=30, patience=30, optimizer=OptimizerConfig(learning_rate=0.01))
    _, history = train_by_lists(
        student, encoding, made["lists"], config, tmp_path, calibration=1.0 if kind == "hcn" else 0.0
    )
    losses, kept = (
        [e.val_log_loss for e in history.epochs],
        [e.metrics["kept@5%"] for e in history.epochs],
    )
    assert history.best_epoch == 1 + int(np.argmin(losses))
    assert min(losses) < 0.6 * losses[0], losses
    assert kept[history.best_epoch - 1] > min(kept[0] + 0.05, 0.95), kept


def test_hcn_learns_from_examples_and_then_from_lists(made, tmp_path, caplog):
    """Every variable that lists train has a gradient, and the intercept of unshown items is none of them."""
    encoding, few = made["encoding"], TrainingConfig(epochs=2, optimizer=OptimizerConfig(learning_rate=0.01))
    config = HcnConfig(dim=16, hidden_units=(16,), num_layers=2)
    given = (encoding, made["encoded"], config, few)
    before, _ = train_hcn(*given, tmp_path / "alone")
    after, _ = train_hcn(*given, tmp_path / "both", lists_dir=made["lists"], list_training=few)
    assert "Gradients do not exist" not in caplog.text
    np.testing.assert_array_equal(after.unshown_shift.kernel, before.unshown_shift.kernel)
    corpus = ItemCorpus.load(made["encoded"], encoding)
    assert np.abs(after.embed_corpus(corpus) - before.embed_corpus(corpus)).max() > 1e-3
    assert len(after.trainable_variables) == len(before.trainable_variables) - 1


def test_examples_in_another_order_are_refused(made, tmp_path):
    raw = made["work"] / "raw"
    for path in sorted((raw / "examples").rglob("*.parquet")):
        target = tmp_path / "raw" / path.relative_to(raw / "examples")
        target.parent.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(path)
        pq.write_table(table.take(pa.array(np.arange(len(table))[::-1])) if "Split" in str(path) else table, target)
    with pytest.raises(ValueError, match="differ in order: encode them again"):
        make_teacher_lists(
            tmp_path / "raw", raw / "behaviors", made["encoded"], made["work"] / "two_tower" / "1",
            made["work"] / "autoint", tmp_path / "out", CONFIG,
        )  # fmt: skip
    with pytest.raises(FileNotFoundError, match="no teacher lists of split `test`"):
        read_lists(made["lists"], "test")
