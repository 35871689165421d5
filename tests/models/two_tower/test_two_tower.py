"""The two-tower: its losses in closed form, its views, what it learns and what it must not be able to learn."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from features.items.catalogue import read_catalogue
from features.items.mutual_information import Contingency, item_codes, mutual_information_of
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import count_positives
from models.inputs.item_corpus import ItemCorpus
from models.training.config import OptimizerConfig, TrainingConfig
from models.training.loop import build_variables
from models.training.retrieval_stage import embed_pairs, pairs_dataset, train_two_tower
from models.two_tower.config import SslConfig, TwoTowerConfig
from models.two_tower.model import TwoTower

TRAINING = TrainingConfig(
    epochs=8,
    patience=8,
    input=InputConfig(batch_size=64),
    optimizer=OptimizerConfig(learning_rate=1e-2),
    steps_per_execution=4,
)
METHODS = ("none", "cfm", "rfm", "feature_dropout", "spread_out")


@pytest.fixture(scope="module")
def relatives(small_log):
    directory, encoding = small_log
    features = encoding.spec.of_table("items")
    table = read_catalogue(directory)
    state = Contingency(len(features))
    state.update(item_codes({f.name: table[f.name].combine_chunks() for f in features}, features))
    return mutual_information_of(state, features)


def make(small_log, relatives=None, seed=0, train_counts=None, **config) -> TwoTower:
    directory, encoding = small_log
    corpus = ItemCorpus.load(directory, encoding)
    if train_counts is None:
        train_counts = count_positives(directory, "train", "click", len(corpus))
    tf.keras.utils.set_random_seed(seed)
    return TwoTower(encoding, corpus, TwoTowerConfig(**config), train_counts=train_counts, mutual_information=relatives)


def first_batch(small_log):
    return next(iter(pairs_dataset(small_log[0], "train", small_log[1], TRAINING)))


def test_main_loss_is_the_softmax_of_its_equation(small_log):
    """cos/τ - log Q, τ first; own other items of a request and repeats of the item are no negatives."""
    batch, rows = first_batch(small_log), first_batch(small_log)["item_row"].numpy()
    index = batch["request_index"].numpy()
    assert len(np.unique(rows)) < len(rows) and len(np.unique(index)) < len(index)
    for log_q in ("none", "counted"):
        model = make(small_log, log_q=log_q, temperature=0.2)
        queries, items = model.embed_queries(batch).numpy()[index], model.embed_items(batch["features"]).numpy()
        np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, rtol=1e-5)
        logits = queries @ items.T / 0.2
        if log_q == "counted":
            counts = count_positives(small_log[0], "train", "click", len(model.corpus))
            logits = logits - np.log(counts / counts.sum())[rows - 1]
        barred = ((rows[:, None] == rows) | (index[:, None] == index)) & ~np.eye(len(rows), dtype=bool)
        logits = np.where(barred, -np.inf, logits)
        expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
        assert float(model.main_loss(batch)) == pytest.approx(expected, rel=1e-4)


def test_log_q_after_the_temperature_three_by_three(small_log):
    """Closed form: cosines 1 on the diagonal, 0 off it, τ = 0.5, Q = (1/2, 1/4, 1/4). Before τ it would be another."""
    model = make(small_log, temperature=0.5)
    model._log_q = tf.math.log(tf.constant([0.5, 0.25, 0.25]))
    model.embed_queries = lambda batch: tf.eye(3)
    model.embed_items = lambda features, masked=None: tf.eye(3)
    batch = {"request_index": tf.range(3), "item_row": tf.constant([1, 2, 3]), "features": {}}

    def loss(divide_first: bool) -> float:
        q = np.array([0.5, 0.25, 0.25])
        logits = np.eye(3) / 0.5 - np.log(q) if divide_first else (np.eye(3) - np.log(q)) / 0.5
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)))

    assert float(model.main_loss(batch)) == pytest.approx(loss(True), rel=1e-6)
    assert abs(loss(True) - loss(False)) > 0.01


def test_log_q_of_a_rare_item_in_a_large_log_is_its_own(small_log):
    """Probabilities of 1e-8 and 1e-7 are corrected by their logarithms; clipped at 1e-6 they would be equal."""
    counts = np.ones(len(ItemCorpus.load(small_log[0], small_log[1])), np.int64)
    counts[1], counts[2] = 10, 10**8 - 10 - (len(counts) - 2)  # 10^8 takes in all
    model = make(small_log, temperature=0.5, train_counts=counts)
    model.embed_queries = lambda batch: tf.eye(3)
    model.embed_items = lambda features, masked=None: tf.eye(3)
    batch = {"request_index": tf.range(3), "item_row": tf.constant([1, 2, 3]), "features": {}}
    logits = np.eye(3) / 0.5 - np.log([1e-8, 1e-7, counts[2] / 1e8])
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    assert float(model.main_loss(batch)) == pytest.approx(expected, rel=1e-5)


def test_no_correction_on_the_contrastive_loss(small_log, relatives):
    """Item frequencies must not matter to L_self: its items are a uniform sample."""
    found = {}
    for log_q in ("none", "counted"):
        model = make(small_log, relatives, log_q=log_q, ssl=SslConfig(method="cfm"))
        tf.random.set_seed(5)
        found[log_q] = float(model.contrastive_loss(tf.range(len(model.corpus))))
    assert found["none"] == found["counted"]


@pytest.mark.parametrize("method", ["cfm", "rfm"])
@pytest.mark.parametrize("item_id", ["feature", "masked"])
def test_views_share_no_feature(small_log, relatives, method, item_id):
    """What h keeps, g masks: kept sets are disjoint and their union is everything that may be kept."""
    model = make(small_log, relatives, ssl=SslConfig(method=method, item_id=item_id))
    may_be_kept = np.array([item_id == "feature" or name != "item_id" for name in model.item_features])
    seen = set()
    for _ in range(40):
        first, second = (view.numpy() for view in model.draw_views())
        assert not (~first & ~second).any()
        np.testing.assert_array_equal(~first | ~second, may_be_kept)
        assert (~first).any() and (~second).any()
        seen.add(tuple(first))
    assert len(seen) > 1  # redrawn


def least_contrastive_loss(model, steps: int = 50) -> float:
    """Trains L_self alone on items whose features are dealt anew each step, so that there is nothing to memorise."""
    n, gather = len(model.corpus), model.corpus.gather
    model.corpus.gather = lambda rows: {
        name: gather(tf.gather(tf.random.shuffle(tf.range(n)), rows))[name] for name in model.item_features
    }
    for field in (model.embedding.table, model.embedding.numeric_vectors):
        field.assign(tf.random.normal(field.shape))  # a shortcut would be easy to find
    optimizer = tf.keras.optimizers.legacy.Adam(0.01)
    variables = [*model.embedding.trainable_variables, *model.item_tower.trainable_variables]

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = model.contrastive_loss(tf.range(n))
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients([(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None])
        return loss

    return min(float(step()) for _ in range(steps))


def test_no_shortcut_between_the_views(small_log, relatives, monkeypatch):
    """Features that know nothing of one another cannot be matched: L_self stays at chance, log n.

    Control: one number that both views see, and L_self falls.
    """
    config = SslConfig(method="rfm", dropout_rate=0.0)
    model = make(small_log, relatives, ssl=config)
    model(first_batch(small_log))
    chance = np.log(len(model.corpus))
    assert least_contrastive_loss(model) > 0.8 * chance
    whole = model.embedding.item_fields
    spared = tf.constant([name != "price" for name in model.item_features])
    monkeypatch.setattr(
        model.embedding, "item_fields", lambda features, masked, rate: whole(features, masked & spared, rate)
    )
    assert least_contrastive_loss(model) < 0.6 * chance


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_every_variable(small_log, relatives, method):
    """One step moves each variable, default embeddings where there are any; and nothing else is trainable."""
    model = make(small_log, relatives, ssl=SslConfig(method=method, alpha=1.0))
    model.compile(optimizer=tf.keras.optimizers.legacy.Adagrad(0.1))
    batch = first_batch(small_log)
    build_variables(model, batch)
    before = {v.name: v.numpy() for v in model.trainable_variables}
    for _ in range(4):
        metrics = model.train_step(batch)
    still = [v.name for v in model.trainable_variables if np.array_equal(before[v.name], v.numpy())]
    assert still == [] and len(before) == len(model.trainable_variables)
    assert any("default_embeddings" in name for name in before) == (method in ("cfm", "rfm", "feature_dropout"))
    assert (float(metrics["ssl_loss"]) > 0) == (method in ("cfm", "rfm", "spread_out"))


def test_alpha_weighs_the_second_task(small_log, relatives):
    losses = {}
    for alpha in (0.0, 0.5, 1.0):
        model = make(small_log, relatives, ssl=SslConfig(method="spread_out", alpha=alpha))
        losses[alpha] = float(model.compute_loss(first_batch(small_log), training=True))
        assert losses[alpha] == pytest.approx(
            float(model.log_loss.result()) + alpha * float(model.ssl_loss.result()), rel=1e-5
        )
        assert float(model.compute_loss(first_batch(small_log), training=False)) == pytest.approx(losses[0.0], rel=1e-4)
    assert losses[0.0] < losses[0.5] < losses[1.0]


@pytest.mark.parametrize("history", ["none", "mean", "attention"])
def test_padding_changes_nothing_and_an_empty_history_is_zero(small_log, history):
    model, batch = make(small_log, history=history), first_batch(small_log)
    plain = model.embed_queries(batch).numpy()
    short = {name: tf.pad(values, [[0, 0], [500, 0]]) for name, values in batch["history"]["short"].items()}
    padded = model.embed_queries({**batch, "history": {**batch["history"], "short": short}}).numpy()
    np.testing.assert_allclose(padded, plain, atol=1e-6)
    if model.short_history is None:
        return
    pooled = model.short_history(batch["history"]).numpy()
    empty = batch["history"]["short_length"].numpy() == 0
    assert empty.any() and not empty.all()
    assert not pooled[empty].any() and pooled[~empty].any(axis=1).all()


def test_learns_the_planted_taste_and_stops_by_recall(small_log, tmp_path, relatives):
    """Clicks follow age × category (a third of the items each): recall@9 of 27 items far above chance."""
    directory, encoding = small_log
    config = TwoTowerConfig(history="none", ssl=SslConfig(method="cfm", alpha=0.1), exclude_features=("interests",))
    model, history = train_two_tower(
        encoding, directory, config, TRAINING, tmp_path, mutual_information=relatives, k=9
    )  # fmt: skip
    recalls = [record.metrics["recall@9"] for record in history.epochs]
    assert max(recalls) > 0.6  # chance: 1/3
    assert history.best_epoch == 1 + int(np.argmax(recalls))
    queries, truth, loss = embed_pairs(model, pairs_dataset(directory, "eval", encoding, TRAINING))
    items = model.embed_corpus()
    scores = queries @ items.T
    ranks = (scores > scores[np.arange(len(truth)), truth][:, None]).sum(axis=1)
    assert np.mean(ranks < 9) == pytest.approx(max(recalls), abs=0.02)
    assert loss == pytest.approx(history.epochs[history.best_epoch - 1].val_log_loss, rel=1e-4)
    again, resumed = train_two_tower(
        encoding, directory, config, TRAINING, tmp_path, mutual_information=relatives, k=9
    )  # fmt: skip
    assert resumed == history
    np.testing.assert_allclose(again.embed_corpus(), items, atol=1e-6)


def test_shuffled_clicks_teach_nothing(small_log, tmp_path):
    """Null control of the test before: clicks dealt out anew among the candidates of each shard."""
    directory, encoding = small_log
    shuffled = tmp_path / "shuffled"
    shutil.copytree(directory, shuffled)
    rng = np.random.default_rng(5)
    for path in sorted(shuffled.glob("Split-*/*.parquet")):
        table = pq.read_table(path).combine_chunks()
        labels = table["_label_click"].combine_chunks()
        dealt = pa.ListArray.from_arrays(labels.offsets, pa.array(rng.permutation(labels.flatten().to_numpy())))
        place = table.column_names.index("_label_click")
        pq.write_table(table.set_column(place, table.schema.field(place), dealt.cast(labels.type)), path)
    config = TwoTowerConfig(history="none", exclude_features=("interests",))
    model, _ = train_two_tower(encoding, shuffled, config, TRAINING, tmp_path / "work", k=9)
    queries, truth, _ = embed_pairs(model, pairs_dataset(shuffled, "eval", encoding, TRAINING))
    scores = queries @ model.embed_corpus().T
    found = np.mean((scores > scores[np.arange(len(truth)), truth][:, None]).sum(axis=1) < 9)
    assert abs(found - 1 / 3) < 4 * np.sqrt(2 / 9 / len(truth))  # the best of eight epochs: a little above chance


def test_items_out_of_the_catalogue_are_no_positives(small_log):
    directory, encoding = small_log
    items = pc.max(read_catalogue(directory)["_item_id"]).as_py()
    _, truth, _ = embed_pairs(make(small_log), pairs_dataset(directory, "eval", encoding, TRAINING))
    assert truth.min() >= 0 and truth.max() <= items


def test_what_is_missing_is_named(small_log, relatives):
    directory, encoding = small_log
    corpus = ItemCorpus.load(directory, encoding)
    with pytest.raises(ValueError, match="`log_q`='counted' needs `train_counts`"):
        TwoTower(encoding, corpus)
    with pytest.raises(ValueError, match="'cfm' needs `mutual_information`"):
        make(small_log, ssl=SslConfig(method="cfm"))
    with pytest.raises(ValueError, match=r"does not know the item features \['title'\]"):
        other = relatives.model_copy(update={"features": ("item_id", "category", "words", "price")})
        make(small_log, other, ssl=SslConfig(method="cfm"))
    with pytest.raises(ValueError, match="two item features"):
        make(small_log, exclude_features=("category", "title", "price"), ssl=SslConfig(method="rfm"))
    with pytest.raises(ValueError, match="features of `items`"):
        make(small_log, exclude_features=("item_id", "category", "title", "price"), history="none")
    with pytest.raises(ValueError, match="a history feature that is not excluded"):
        make(small_log, exclude_features=("item_id", "category"))
