import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from features.spec import FeatureSpec
from serving.export.ranker import export_ranker
from serving.requests.tensors import candidate_counts, single_request_tensors, tensors_from_table
from serving.saved.ranker import SavedRanker
from serving.saved.saved_model import resolve_version
from serving.signature_specs import check_spec
from tests.builders.small_ranker import (
    SPEC,
    make_small_ranker,
    offline_logits,
    random_requests,
)
from tests.builders.warmup_file import warmup_requests

ROOT = Path(__file__).parents[3]


def test_signatures_take_raw_values(saved):
    module = tf.saved_model.load(saved.directory)
    one = module.signatures["serving_default"].structured_input_signature[1]
    many = module.signatures["rank_requests"].structured_input_signature[1]
    assert set(one) == {feature.name for feature in SPEC.features}
    assert set(many) == set(one) | {"request_index"}
    assert many["request_index"] == tf.TensorSpec([None], tf.int32, name="request_index")
    for feature in SPEC.features:
        values = [None] if feature.multi_valued else []
        request = feature.scope == "request"
        assert one[feature.name].shape.as_list() == [1 if request else None, *values]
        assert many[feature.name].shape.as_list() == [None, *values]
        assert one[feature.name].dtype.name == many[feature.name].dtype.name == feature.dtype
    for signature in module.signatures.values():
        outputs = signature.structured_outputs
        assert {name: (spec.dtype.name, spec.shape.as_list()) for name, spec in outputs.items()} == {
            "score": ("float32", [None]),
            "logit": ("float32", [None]),
        }


def test_a_request_alone_scores_as_in_a_batch(saved):
    table = random_requests(40, seed=6)
    together = saved.run("rank_requests", tensors_from_table(SPEC, table))
    alone = [saved.run("serving_default", single_request_tensors(SPEC, table.slice(row, 1))) for row in range(40)]
    for output in ("score", "logit"):
        np.testing.assert_allclose(np.concatenate([one[output] for one in alone]), together[output], rtol=0, atol=1e-6)
    np.testing.assert_allclose(together["score"], 1 / (1 + np.exp(-together["logit"].astype(np.float64))), atol=1e-6)


def test_scores_follow_the_order_of_candidates(saved):
    table = random_requests(25, seed=8)
    tensors = tensors_from_table(SPEC, table)
    index = tensors["request_index"]
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.random(len(index)), index))  # candidates shuffled within their requests
    assert (order != np.arange(len(order))).any()
    shuffled = dict(tensors)
    for feature in SPEC.of_scope("candidate"):
        shuffled[feature.name] = tensors[feature.name][order]
    before, after = saved.run("rank_requests", tensors)["logit"], saved.run("rank_requests", shuffled)["logit"]
    np.testing.assert_allclose(after, before[order], rtol=0, atol=1e-6)
    assert not np.allclose(after, before, atol=1e-2)


def test_wider_padding_changes_nothing(saved):
    table = random_requests(10, seed=12)
    tensors = tensors_from_table(SPEC, table)
    padded = dict(tensors)
    for feature in SPEC.features:
        if feature.multi_valued:
            missing = b"" if feature.dtype == "string" else np.iinfo(np.int64).min
            padded[feature.name] = np.pad(tensors[feature.name], ((0, 0), (2, 3)), constant_values=missing)
    np.testing.assert_allclose(
        saved.run("rank_requests", padded)["logit"], saved.run("rank_requests", tensors)["logit"], atol=1e-6
    )


def test_warmup_requests_are_real_rows_and_run(saved, model, encoding):
    requests, tensors = zip(*warmup_requests(saved.directory), strict=True)
    table = random_requests(5, seed=9)  # what the fixture exported with
    expected = offline_logits(model, encoding, table)
    assert [request.model_spec.signature_name for request in requests] == ["serving_default"] * 5 + ["rank_requests"]
    assert {request.model_spec.name for request in requests} == {"shop"}
    module = tf.saved_model.load(saved.directory)
    ends = np.cumsum(candidate_counts(table))
    parts = [*np.split(expected, ends[:-1]), expected]
    for request, inputs, logits in zip(requests, tensors, parts, strict=True):
        outputs = module.signatures[request.model_spec.signature_name](**inputs)
        np.testing.assert_allclose(outputs["logit"], logits, rtol=1e-6, atol=1e-6)


def test_an_export_is_refused_or_replaced(base_dir, encoding, tmp_path):
    directory = tmp_path / "shop" / "1"
    shutil.copytree(base_dir / "3", directory)
    tensors = tensors_from_table(SPEC, random_requests(4))
    before = SavedRanker(directory).run("rank_requests", tensors)["logit"]

    other = make_small_ranker(encoding, seed=1)
    with pytest.raises(FileExistsError, match="Export under a new version, or pass `overwrite=True`"):
        export_ranker(other, encoding, directory)
    np.testing.assert_allclose(SavedRanker(directory).run("rank_requests", tensors)["logit"], before, atol=1e-6)
    assert export_ranker(other, encoding, directory, overwrite=True) == str(directory)
    assert not (directory / "assets.extra" / "tf_serving_warmup_requests").exists()
    assert not np.allclose(SavedRanker(directory).run("rank_requests", tensors)["logit"], before)
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["1"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failed_export_leaves_what_was_there(base_dir, model, encoding, tmp_path, overwrite):
    directory = tmp_path / "shop" / "1"
    directory.mkdir(parents=True)  # an empty directory is no export
    if overwrite:
        shutil.copytree(base_dir / "3", directory, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="`warmup_rows` must hold 1 to 999 requests. Received: 0 rows"):
        export_ranker(model, encoding, directory, random_requests(1).slice(1), overwrite=overwrite)
    assert [path.name for path in directory.parent.iterdir()] == ["1"]
    assert (directory / "saved_model.pb").is_file() == overwrite


KILLED = """
import os, signal, sys
import models
import tensorflow as tf
from features.encoding.feature_encoding import FeatureEncoding
from serving.export.ranker import export_ranker
from tests.builders.small_ranker import make_small_ranker

def save_and_die(module, directory, signatures):
    save(module, directory, signatures=signatures)
    assert os.path.isfile(os.path.join(directory, "saved_model.pb"))  # all written, nothing published
    os.kill(os.getpid(), signal.SIGKILL)

save, tf.saved_model.save = tf.saved_model.save, save_and_die
encoding = FeatureEncoding.load(sys.argv[1])
export_ranker(make_small_ranker(encoding), encoding, sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_export_leaves_no_version(base_dir, encoding, tmp_path):
    encoding.save(str(tmp_path / "encoding"))
    base = tmp_path / "shop"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "encoding"), str(base / "1")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert all(path.name.startswith(".") for path in base.iterdir())
    with pytest.raises(FileNotFoundError, match="`model_dir` must be a SavedModel"):
        resolve_version(base)
    shutil.copytree(base_dir / "3", base / "1")
    assert resolve_version(base) == str(base / "1")


def test_a_feature_may_not_hide_another_input():
    spec = FeatureSpec.model_validate({"name": "s", "features": [{"name": "request_index", "table": "users"}]})
    with pytest.raises(ValueError, match="`request_index` has the name of an input"):
        check_spec(spec)
