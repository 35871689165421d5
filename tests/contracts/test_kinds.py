"""What every kind of model holds to. The tests run over the table of kinds: a new kind is tested by being listed.

So is a sixth one here, the ranker of docs/guides/add-a-model.md: a package and a row of the table, no more.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import models.training.loop as loop
from features.config import SpecError
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.training.config import OptimizerConfig, TrainingConfig
from models.training.history import TrainingHistory
from models.training.loop import predict
from models.training.retrieval_stage import embed_pairs, pairs_dataset
from models.training.task import TrainingTask
from pipeline.model_kinds import KINDS, STAGES, Kind, kind_of, load
from tests.contracts.outside_model import write_package
from tests.serving.export.merged_requests import check_signatures

ROOT = Path(__file__).parents[2]
SIXTH = Kind("DCN", stage="fine", config="my_shop.config:DcnConfig", model="my_shop.rankers:DCN")
NAMES = [*KINDS, "sixth"]

#: With these a training draws nothing at random: one that is resumed draws on, and not again.
WITHOUT_CHANCE = {"aw_moe": {"contrastive": None}}
#: Logits of ±10 that were summed in another order.
SAME = {"rtol": 1e-5, "atol": 1e-5}
TRAINING = TrainingConfig(
    epochs=2,
    input=InputConfig(batch_size=64),
    optimizer=OptimizerConfig(learning_rate=0.02),
    steps_per_execution=2,
)


@pytest.fixture(scope="module", autouse=True)
def sixth(tmp_path_factory):
    """One folder and one row."""
    package = str(write_package(tmp_path_factory.mktemp("elsewhere")))
    sys.path.insert(0, package)
    KINDS["sixth"] = SIXTH
    yield
    del KINDS["sixth"]
    sys.path.remove(package)


@pytest.fixture(params=NAMES)
def kind(request) -> str:
    return request.param


def config_of(kind: str, **settings):
    """The kind's defaults; where histories may be read, they are, and signed without a two-tower."""
    config_class = load(kind_of(kind).config)
    field = config_class.model_fields.get("history")
    if field is not None and "HistoryConfig" in str(field.annotation):
        settings["history"] = {"short": "target_attention", "long": "sdim", "signature_source": "end_to_end"}
    return config_class.model_validate(settings)


def train(kind: str, small_log, work_dir, config=TRAINING, **settings):
    """Trains as the pipeline does: by the trainer of the kind's stage."""
    directory, encoding = small_log
    task = TrainingTask(
        model=load(kind_of(kind).model),
        parameters=config_of(kind, **settings),
        encoding=encoding,
        examples_dir=str(directory),
        training=config,
        work_dir=str(work_dir),
    )
    return load(STAGES[kind_of(kind).stage].trainer)(task)


@pytest.fixture(scope="module")
def trained(small_log, tmp_path_factory):
    """A trained model of each kind, made when asked for; its weights were made so large that everything counts."""
    found = {}

    def of(kind: str):
        if kind not in found:
            found[kind] = train(kind, small_log, tmp_path_factory.mktemp(kind))
            tf.keras.utils.set_random_seed(1)
            for weight in found[kind].model.trainable_variables:
                weight.assign_add(tf.random.normal(weight.shape, stddev=0.1))
        return found[kind]

    return of


@pytest.fixture
def model(kind, trained):
    return trained(kind).model


@pytest.fixture(scope="module")
def batch(small_log):
    """Requests of many candidates; users with long, short and no histories."""
    found = next(iter(make_dataset(*at(small_log, "eval"), InputConfig(batch_size=300), histories=True)))
    lengths = found["history"]["short_length"].numpy()
    assert (lengths == 0).any() and (lengths > 2).any() and len(found["label"]) > 2 * len(lengths)
    return found


def at(small_log, split):
    return small_log[0], split, small_log[1]


def learnt_batch(kind, small_log, batch):
    """A batch as the kind's stage trains on it."""
    if kind_of(kind).stage != "retrieval":
        return batch
    return next(iter(pairs_dataset(*at(small_log, "train"), TRAINING)))


# What a model holds to. Each is a function, so that it can be shown to fail.


def check_finite(model, batch, learnt):
    """Logits, loss and gradients are numbers, also where a number of the log is as large as float32 holds."""
    logits = model(batch).numpy()
    assert logits.shape == batch["label"].shape and np.isfinite(logits).all()
    assert len(np.unique(logits.round(5))) > len(logits) / 4, "candidates differ, and their logits do not"
    price = learnt["features"]["price"]
    extreme = {**learnt, "features": {**learnt["features"], "price": tf.where(price > 0, 3.4e38, -3.4e38)}}
    for each in (learnt, extreme):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(each, training=True)
        gradients = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
        values = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
        assert np.isfinite(loss) and all(np.isfinite(value).all() for value in values)
    assert np.mean([value.any() for value in values]) > 0.5, "most variables have no gradient"


def check_padding(model, batch):
    """Five hundred places of padding before a history change nothing."""
    pad = lambda ids: tf.pad(ids, [[0, 0], [500, 0]])  # noqa: E731
    wide = {window: {name: pad(ids) for name, ids in batch["history"][window].items()} for window in ("short", "long")}
    padded = {**batch, "history": {**batch["history"], **wide}}
    np.testing.assert_allclose(model(padded), model(batch), **SAME)


def check_empty_history(model, batch, reads):
    """Without behaviours logits are finite, and what stands in the places of none is not read."""
    nobody = tf.zeros_like(batch["history"]["short_length"])
    cold = {**batch["history"], "short_length": nobody, "long_length": nobody}
    other = {window: {n: tf.ones_like(ids) for n, ids in cold[window].items()} for window in ("short", "long")}
    logits = model({**batch, "history": cold}).numpy()
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(model({**batch, "history": {**cold, **other}}), logits, **SAME)
    if reads:
        assert np.abs(logits - model(batch)).max() > 1e-4, "the history says nothing"


def check_order(model, batch, spec):
    """A candidate's logit does not depend on its place, nor on which others stand beside it."""
    index = batch["request_index"].numpy()
    order = np.lexsort((-np.arange(len(index)), index))  # backwards within each request
    candidates = {feature.name for feature in spec.of_scope("candidate")}
    features = {n: tf.gather(v, order) if n in candidates else v for n, v in batch["features"].items()}
    turned = {**batch, "features": features, "item_row": tf.gather(batch["item_row"], order)}
    np.testing.assert_allclose(model(turned), tf.gather(model(batch), order), **SAME)
    alone = np.flatnonzero(np.append(True, index[1:] != index[:-1]))  # the first of each request
    features = {n: tf.gather(v, alone) if n in candidates else v for n, v in batch["features"].items()}
    single = {**batch, "features": features, "request_index": tf.range(len(alone))}
    single |= {name: tf.gather(batch[name], alone) for name in ("item_row", "label", "position") if name in batch}
    np.testing.assert_allclose(model(single), tf.gather(model(batch), alone), **SAME)


def test_logits_and_gradients_are_finite(kind, model, batch, small_log):
    check_finite(model, batch, learnt_batch(kind, small_log, batch))


def test_padding_changes_nothing(model, batch):
    check_padding(model, batch)


def test_an_empty_history_is_empty(kind, model, batch):
    reads = kind_of(kind).stage != "fine" or "history" in load(kind_of(kind).config).model_fields
    check_empty_history(model, batch, reads)


def test_logits_follow_their_candidates(model, batch, small_log):
    check_order(model, batch, small_log[1].spec)


class Broken:
    """A model with a fault put over it."""

    def __init__(self, model, fault):
        self.model, self.fault, self.config = model, fault, model.config
        self.trainable_variables = model.trainable_variables

    def __call__(self, batch, training=False):
        return self.model(batch, training=training) + self.fault(batch)

    def compute_loss(self, batch, training=False):
        return tf.reduce_mean(self(batch)) ** 2


def test_a_broken_kind_is_caught(trained, batch, small_log):
    model, spec = trained("autoint").model, small_log[1].spec
    place = lambda b: tf.cast(tf.range(tf.size(b["request_index"])), tf.float32)  # noqa: E731
    width = lambda b: tf.cast(tf.shape(b["history"]["long"]["item_id"])[1], tf.float32)  # noqa: E731
    read = lambda b: tf.reduce_mean(tf.cast(b["history"]["short"]["item_id"], tf.float32))  # noqa: E731
    listwise = lambda b: tf.reduce_mean(b["features"]["price"])  # noqa: E731
    overflow = lambda b: tf.exp(tf.abs(b["features"]["price"]))  # noqa: E731
    for fault, check, *more in (
        (overflow, check_finite, batch),
        (width, check_padding),
        (read, check_empty_history, True),
        (place, check_order, spec),
        (listwise, check_order, spec),
    ):
        check(Broken(model, lambda b: 0.0), batch, *more)
        with pytest.raises(AssertionError):
            check(Broken(model, fault), batch, *more)


@pytest.mark.slow
def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(kind, small_log, tmp_path, monkeypatch):
    """It is cut off in the middle of an epoch, some steps after a checkpoint there, which it goes on from."""
    config = TRAINING.model_copy(update={"epochs": 3, "patience": 3, "checkpoint_steps": 2})
    settings = WITHOUT_CHANCE.get(kind, {})
    whole = train(kind, small_log, tmp_path / "whole", config, **settings)
    stop_at = loop._Training._stop_at

    def cut_off(training, position):
        stop_at(training, position)
        if (position.epoch, position.step) == (2, 2):
            training._run_steps(iter(training._batches.make("train", 2)), 1)  # changes the weights, on disk it is not
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_stop_at", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train(kind, small_log, tmp_path / "cut", config, **settings)
    found = TrainingHistory.load(tmp_path / "cut")
    assert len(found.epochs) == 1 and (found.newest.epoch, found.newest.step) == (2, 2)
    resumed = train(kind, small_log, tmp_path / "cut", config, **settings)
    for left, right in zip(whole.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6, err_msg=left.name)
    for name in ("val_log_loss", "train_log_loss"):
        losses = [[getattr(record, name) for record in each.history.epochs] for each in (whole, resumed)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) == 3


SCORE = """
import json
import sys
import numpy as np
from tests.builders.small_log import CATALOGUE_ITEMS

for stage, model, raw, out in json.load(open(sys.argv[1])):
    if stage == "retrieval":
        from serving.saved.two_tower import SavedTwoTower

        found, taken, _ = SavedTwoTower(model).embed_takes(raw, raw + "/behaviors", "eval")
        found = found[taken.cast("int64").to_numpy() < CATALOGUE_ITEMS]  # training knows no other takes
    else:
        from serving.offline.scoring import score_examples

        found = score_examples(model, raw, "eval", behaviors_dir=raw + "/behaviors")["score"].to_numpy()
    np.save(out, found)
"""


@pytest.fixture(scope="module")
def exported(trained, small_log, raw_small_log, tmp_path_factory):
    """The folder of every kind's export, and of what another process made of it and the raw log (`scores.npy`)."""
    from tests.builders.small_log import raw_rows

    work, jobs, folders = tmp_path_factory.mktemp("exports"), [], {}
    rows = raw_rows(raw_small_log, small_log[1].spec).slice(0, 3)
    for name in NAMES:
        made, folders[name] = trained(name), work / name / "1"
        export = load(STAGES[kind_of(name).stage].exporter)
        export(made.model, small_log[1], folders[name], warmup_rows=rows, overwrite=True, **made.export_with)
        jobs.append((kind_of(name).stage, str(folders[name]), str(raw_small_log), str(work / name / "scores.npy")))
    (work / "jobs.json").write_text(json.dumps(jobs))
    subprocess.run([sys.executable, "-c", SCORE, work / "jobs.json"], check=True, cwd=ROOT)
    return folders


def test_raw_values_in_a_new_process_are_the_model_on_encoded_ones(kind, model, small_log, exported):
    found = np.load(exported[kind].parent / "scores.npy")
    if kind_of(kind).stage == "retrieval":
        expected, _, _ = embed_pairs(model, pairs_dataset(*at(small_log, "eval"), TRAINING))
    else:
        dataset = make_dataset(*at(small_log, "eval"), InputConfig(batch_size=64), histories=True)
        expected = 1 / (1 + np.exp(-predict(model, dataset)[1].astype(np.float64)))
    assert np.std(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_every_signature_warms_up_and_may_be_merged(kind, exported):
    check_signatures(exported[kind])


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_has_its_page(kind):
    page = ROOT / "docs" / "models" / f"{kind}.md"
    assert page.is_file() and KINDS[kind].title.split()[-1].lower() in page.read_text("utf-8").lower()


def test_a_row_names_what_is_there(kind):
    row = kind_of(kind)
    assert row.title and issubclass(load(row.model), tf.keras.Model)
    assert callable(load(STAGES[row.stage].trainer)) and callable(load(STAGES[row.stage].exporter))
    assert config_of(kind).model_dump_json()


CONFIGS = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("models/**/config.py"))


def test_configurations_import_no_tensorflow():
    modules = sorted({*CONFIGS, *(KINDS[kind].config.partition(":")[0] for kind in KINDS if kind != "sixth")})
    assert len(modules) >= 7
    code = (
        f"import sys, importlib\nfor module in {modules}:\n    importlib.import_module(module)\n"
        "print(sorted({'tensorflow', 'keras', 'tf_keras', 'tensorflow_recommenders', 'tfx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_class_is_a_kind_by_its_import_path():
    found = kind_of("my_shop.rankers:DCN")
    assert found == Kind("DCN", "fine", "my_shop.rankers:DCN.Config", "my_shop.rankers:DCN")
    assert kind_of("my_shop.kinds:DCN").title == "DCN-v2"
    ranker = sys.modules["my_shop.rankers"]
    ranker.Odd = dataclasses.make_dataclass("Odd", [])
    ranker.Odd.stage, ranker.Odd.Config = "middle", ranker.DCN.Config
    with pytest.raises(SpecError, match="`stage` must be one of retrieval, fine, coarse. Received: 'middle'"):
        kind_of("my_shop.rankers:Odd")
    ranker.Odd.stage, ranker.Odd.Config = "fine", dict
    with pytest.raises(SpecError, match="must be a class that inherits features.config.Strict"):
        kind_of("my_shop.rankers:Odd")


def test_a_sixth_ranker_is_a_folder_and_a_row(small_log, raw_small_log, tmp_path):
    """It is configured, wired into the DAG, trained and exported by the pipeline's own functions."""
    from pipeline.config import PipelineConfig
    from pipeline.pipeline import create_pipeline
    from pipeline.trainer import run_fn
    from serving.saved.ranker import SavedRanker

    directory, encoding = small_log
    training = TRAINING.model_dump(mode="json")
    config = PipelineConfig.model_validate(
        {
            "name": "shop",
            "feature_spec": encoding.spec,
            "ingest": {"tables": {"impressions": "x"}},
            "models": {"sixth": {"parameters": {"num_layers": 1}, "training": training}},
            "run_dir": tmp_path / "run",
        }
    )
    assert config.models.title("sixth") == "DCN"
    nodes = {node.id: node for node in create_pipeline(config).components}
    assert {"Trainer.sixth", "RankingEvaluator.sixth", "Pusher.sixth"} < set(nodes)
    encoding.save(tmp_path / "encoding")
    run_fn(
        SimpleNamespace(
            custom_config=json.loads(nodes["Trainer.sixth"].exec_properties["custom_config"]),
            transform_graph_path=str(tmp_path / "encoding"),
            train_files=[str(directory / "Split-train" / "*")],
            base_model=None,
            serving_model_dir=str(tmp_path / "model" / "1"),
            model_run_dir=str(tmp_path / "model_run"),
        )
    )
    assert len(json.loads((tmp_path / "model_run" / "training_history.json").read_text())["epochs"]) == 2
    assert list((tmp_path / "model_run" / "tensorboard").iterdir())
    assert not list((tmp_path / "run" / "training").iterdir())  # checkpoints go once the model is there
    assert SavedRanker(tmp_path / "model" / "1").spec == encoding.spec
