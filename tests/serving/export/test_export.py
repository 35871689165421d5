import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.spec import FeatureSpec
from serving.export.ranker import export_ranker
from serving.requests.tensors import candidate_counts, slate_tensors, tensors_from_table
from serving.saved.ranker import SavedRanker
from serving.saved.saved_model import resolve_version
from serving.saved.signature_specs import check_spec
from tests.builders.parity import raw_tables
from tests.builders.small_ranker import (
    SPEC,
    make_small_ranker,
    offline_logits,
    random_requests,
)
from tests.serving.export.merged_requests import assert_merging_changes_nothing, merged, padded
from tests.serving.export.warmup_file import warmup_requests

ROOT = Path(__file__).parents[3]


OUTPUTS = {"score": ("float32", 2), "logit": ("float32", 2), "long_history_used": ("bool", 1)}


def test_signatures_take_raw_values(saved):
    one, many = saved.inputs("serving_default"), saved.inputs("rank_requests")
    names = {name for f in SPEC.features for name in ([f.name, f"{f.name}_num_values"][: 1 + f.multi_valued])}
    assert set(one) == names | {"num_candidates"} and set(many) == names | {"request_index"}
    assert many["request_index"] == tf.TensorSpec([None], tf.int32, name="request_index")
    for feature in SPEC.features:
        ranks = 1 + (feature.scope == "candidate") + feature.multi_valued, 1 + feature.multi_valued
        for inputs, rank in zip((one, many), ranks, strict=True):
            assert inputs[feature.name].shape.as_list() == [None] * rank
            assert inputs[feature.name].dtype.name == feature.dtype
    assert list(saved._module.signatures) == ["serving_default"]  # the joint graph is beside them
    outputs = saved._module.signatures["serving_default"].structured_outputs
    assert {name: (spec.dtype.name, spec.shape.rank) for name, spec in outputs.items()} == OUTPUTS


def test_a_request_alone_scores_as_in_a_batch(saved):
    table = random_requests(40, seed=6)
    joint = saved.run("rank_requests", tensors_from_table(SPEC, table))
    tensors = slate_tensors(SPEC, table)
    inside = np.arange(6) < tensors["num_candidates"][:, np.newaxis]
    together = saved.run("serving_default", tensors)
    alone = [saved.run("serving_default", slate_tensors(SPEC, table.slice(row, 1))) for row in range(40)]
    for output in ("score", "logit"):
        found = np.concatenate([one[output][0] for one in alone])
        np.testing.assert_allclose(found, joint[output], rtol=0, atol=1e-6)
        np.testing.assert_allclose(together[output][inside], joint[output], rtol=0, atol=1e-6)
    np.testing.assert_allclose(joint["score"], 1 / (1 + np.exp(-joint["logit"].astype(np.float64))), atol=1e-6)
    np.testing.assert_array_equal(together["score"][~inside], 0)
    assert (together["logit"][~inside] < -1e38).all() and not together["long_history_used"].any()


def test_no_candidates_have_no_scores(saved):
    table = random_requests(3, seed=6)
    tensors = slate_tensors(SPEC, table)
    empty = tensors | {"num_candidates": np.array([0, 0, -1], np.int32)}
    np.testing.assert_array_equal(saved.run("serving_default", empty)["score"], np.zeros_like(tensors["raw"]))
    none = {name: values[:, :0] if values.ndim > 1 else values for name, values in empty.items()}
    none["interests"] = tensors["interests"]
    assert saved.run("serving_default", none)["score"].shape == (3, 0)
    joint = tensors_from_table(SPEC, table)
    requests = {f.name for f in SPEC.of_scope("request")} | {"interests_num_values"}
    joint = {name: values if name in requests else values[:0] for name, values in joint.items()}
    assert saved.run("rank_requests", joint)["logit"].shape == (0,)
    some = tensors | {"num_candidates": np.array([1, 0, 1], np.int32)}
    found, whole = (saved.run("serving_default", each)["logit"] for each in (some, tensors))
    np.testing.assert_allclose(found[[0, 2], 0], whole[[0, 2], 0], atol=1e-6)
    assert (found > -1e38).sum() == 2


def test_an_unsorted_request_index_is_an_error(saved):
    tensors = tensors_from_table(SPEC, random_requests(4))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`request_index` must not fall"):
        saved.run("rank_requests", tensors | {"request_index": tensors["request_index"][::-1].copy()})


def test_scores_follow_the_order_of_candidates(saved):
    table = random_requests(25, seed=8)
    tensors = tensors_from_table(SPEC, table)
    index = tensors["request_index"]
    rng = np.random.default_rng(0)
    order = np.lexsort((rng.random(len(index)), index))  # candidates shuffled within their requests
    assert (order != np.arange(len(order))).any()
    shuffled = dict(tensors)
    candidates = {feature.name for feature in SPEC.of_scope("candidate")}
    for name, values in tensors.items():
        if name.removesuffix("_num_values") in candidates:
            shuffled[name] = values[order]
    before, after = saved.run("rank_requests", tensors)["logit"], saved.run("rank_requests", shuffled)["logit"]
    np.testing.assert_allclose(after, before[order], rtol=0, atol=1e-6)
    assert not np.allclose(after, before, atol=1e-2)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=raw_tables(), more=st.integers(0, 3))
def test_padding_of_any_kind_changes_nothing(saved, table, more):
    """Requests merged as TensorFlow Serving merges them: padded at the end with what a tensor holds first."""
    joint = saved.run("rank_requests", tensors_from_table(SPEC, table))["logit"]
    parts = [slate_tensors(SPEC, table.slice(row, 1)) for row in range(len(table))]
    assert_merging_changes_nothing(lambda tensors: saved.run("serving_default", tensors), parts)
    wide = merged(parts)
    wide = {name: padded(values, tuple(width + more for width in values.shape[1:])) for name, values in wide.items()}
    found = saved.run("serving_default", wide)["logit"]
    logits = [row[:count] for row, count in zip(found, candidate_counts(table), strict=True)]
    np.testing.assert_allclose(np.concatenate(logits), joint, rtol=1e-6, atol=1e-6)


def test_warmup_requests_are_real_rows_and_run(saved, model, encoding):
    """The smallest and the largest usual request, of the signature's inputs alone: a server takes no others."""
    requests, tensors = zip(*warmup_requests(saved.directory), strict=True)
    table = random_requests(5, seed=9)  # what the fixture exported with
    expected = offline_logits(model, encoding, table)
    assert [request.model_spec.signature_name for request in requests] == ["serving_default"] * 2
    assert {request.model_spec.name for request in requests} == {"shop"}
    assert all(set(inputs) == set(saved.inputs("serving_default")) for inputs in tensors)
    small, large = (saved.run("serving_default", inputs)["logit"] for inputs in tensors)
    np.testing.assert_allclose(small, expected[:1, np.newaxis], rtol=1e-6, atol=1e-6)
    logits = [row[:count] for row, count in zip(large, candidate_counts(table), strict=True)]
    np.testing.assert_allclose(np.concatenate(logits), expected, rtol=1e-6, atol=1e-6)


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
