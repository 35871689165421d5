"""The trial before a push: a good export is blessed, and each wrong one is refused by the gate that names why."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from evaluation.serving_check import ServingCheck
from features.arrow import write_parquet
from models.autoint.model import AutoInt, AutoIntConfig
from models.inputs.input_pipeline import InputConfig, make_dataset
from serving.export.ranker import export_ranker
from serving.export.warmup import WARMUP_FILE
from serving.validation.config import ServingSection
from serving.validation.trained_answers import ANSWERS_FILE, TRAINED_LOGIT, read_answers
from serving.validation.trial import check_export
from tests.builders.small_ranker import make_small_ranker, random_requests
from tests.contracts.test_exports import coarse_export, some_rows, two_tower_export

#: No test depends on how fast the machine is: what is slow here is refused by a budget that nothing keeps.
SECTION = ServingSection(p99_ms=60_000, concurrency=3, calls=20, candidates=40, rows=3)
EQUAL = ("trainer_equals_export", "export_equals_grpc", "grpc_equals_rest")


def gate(check: ServingCheck, name: str):
    (found,) = (each for each in check.gates if each.name == name)
    return found


def failed(check: ServingCheck) -> list[str]:
    assert check.blessed == (not check.failed_gates)
    return [each.name for each in check.failed_gates]


@pytest.fixture(scope="module")
def small_export(model, encoding, tmp_path_factory):
    """A ranker without histories."""
    return export_ranker(model, encoding, tmp_path_factory.mktemp("small") / "1", random_requests(5, seed=9))


@pytest.fixture
def changed(small_export, tmp_path):
    """A copy of it, to be changed."""
    shutil.copytree(small_export, tmp_path / "1")
    return tmp_path / "1"


def with_tables(request):
    """A ranker whose long histories are bucket tables at serving, and the behaviours themselves in training."""
    directory, encoding = request.getfixturevalue("small_log")
    history = {"short": "din", "long": "sdim", "signature_source": "end_to_end"}
    tf.keras.utils.set_random_seed(3)
    model = AutoInt(encoding, AutoIntConfig(num_layers=1, head_dim=8, history=history))
    model(next(iter(make_dataset(directory, "eval", encoding, InputConfig(batch_size=512), histories=True))))
    for weight in model.trainable_weights:  # at initial weights histories say little
        weight.assign_add(tf.random.normal(weight.shape, stddev=0.1))
    rows = some_rows(request)
    return lambda target, **options: export_ranker(model, encoding, target, rows, **options)


KINDS = {"tables": with_tables, "two_tower": two_tower_export, "coarse": coarse_export}


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_of_every_kind_is_blessed(kind, request, tmp_path):
    export = KINDS[kind](request)(tmp_path / "1")
    check = check_export(export, SECTION)
    assert failed(check) == [], check.failed_gates
    assert {each.signature for each in check.comparisons if each.between != "trainer = export"} == set(check.signatures)
    assert check.rows == 3 and check.warmup_records == 2 * len(check.signatures) and check.measured.calls == 20
    assert check.measured.p50_ms <= check.measured.p99_ms and not check.measured.errors
    assert gate(check, "trainer_equals_export").maximum == (1e-5 if kind == "tables" else 1e-6)
    assert ServingCheck.load(tmp_path) == check if check.save(tmp_path) else None


def test_a_good_export_is_blessed(small_export):
    check = check_export(small_export, SECTION)
    assert failed(check) == []
    compared = {each.between: each for each in check.comparisons if each.output == "score"}
    candidates = sum(map(len, random_requests(5, seed=9)["item_id"].to_pylist()[:3]))
    assert compared["trainer = export"].values == 2 * candidates  # all together, and each alone
    assert check.figures().keys() == {"p50_ms", "p99_ms"} and check.largest("gRPC = REST") <= 1e-6


def test_a_variable_that_changed_after_the_training_is_found(model, encoding, small_export, changed):
    """The weights of another model, as an export of a wrong checkpoint has them."""
    other = make_small_ranker(encoding, seed=1)
    export_ranker(other, encoding, changed, random_requests(5, seed=9), overwrite=True)
    shutil.copy(f"{small_export}/{ANSWERS_FILE}", changed / ANSWERS_FILE)
    check = check_export(changed, SECTION)
    assert failed(check) == ["trainer_equals_export"]
    found = gate(check, "trainer_equals_export")
    assert found.value > 1e-3 and "`serving_default` → `score`" in found.reason


def test_answers_that_are_off_by_little_are_found(changed):
    """Of one candidate, by ten times the tolerance."""
    answers = read_answers(changed)
    logits = [list(map(float, each)) for each in answers[TRAINED_LOGIT].to_pylist()]
    logits[1][0] += 1e-4
    place = answers.column_names.index(TRAINED_LOGIT)
    write_parquet(answers.set_column(place, TRAINED_LOGIT, pa.array(logits)), changed / ANSWERS_FILE)
    assert failed(check_export(changed, SECTION)) == ["trainer_equals_export"]


def test_an_export_whose_warm_up_fails_is_refused(changed):
    from serving.export.warmup import prediction_log, write_prediction_logs

    (changed / WARMUP_FILE).unlink()
    write_prediction_logs(changed, [prediction_log("shop", "serving_default", {"hour": np.zeros(1, np.float32)})])
    check = check_export(changed, SECTION)
    assert failed(check) == ["warm_up"] and "input size does not match signature" in gate(check, "warm_up").reason


def test_an_export_that_cannot_be_loaded_is_refused(changed):
    (changed / "saved_model.pb").write_bytes(b"graph")
    check = check_export(changed, SECTION)
    assert failed(check) == ["loads"] and check.measured is None


def test_a_signature_that_no_warm_up_asks_is_named(changed):
    (changed / WARMUP_FILE).unlink()
    check = check_export(changed, SECTION)
    assert failed(check) == ["signatures"] and "serving_default" in gate(check, "signatures").reason


def test_an_export_without_the_trained_models_answers_is_refused(changed):
    (changed / ANSWERS_FILE).unlink()
    check = check_export(changed, SECTION)
    assert failed(check) == ["rows"] and ANSWERS_FILE in gate(check, "rows").reason


def test_a_budget_that_nothing_keeps_refuses_and_ends_early(small_export):
    check = check_export(small_export, SECTION.model_copy(update={"p99_ms": 0.001, "calls": 5000}))
    assert failed(check) == ["p99_ms"]
    assert len(check.measured.rounds_p99_ms) == 3 and check.measured.calls < 100
    assert check.measured.p99_ms == min(check.measured.rounds_p99_ms) == gate(check, "p99_ms").value
