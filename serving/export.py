"""A trained ranker as a SavedModel whose signatures take raw values.

Vocabularies and numeric transforms travel inside the graph, so a client sends what its logs hold. docs/serving.md
describes signatures and tensors.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from features.encoding import FeatureEncoding
from features.spec import Feature
from serving.signature_inputs import RANK_REQUESTS, REQUEST_INDEX, SERVING_DEFAULT, SPEC_FILE, check_spec
from serving.warmup import write_warmup_requests


def export_ranker(
    model,
    encoding: FeatureEncoding,
    directory: str | Path,
    warmup_rows: pa.Table | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Exports a ranker with the signatures `serving_default` (one request) and `rank_requests` (B requests).

    The SavedModel is written beside `directory` under a hidden name and renamed when it is complete: a reader sees all
    of it or nothing.

    Args:
      model: a trained Keras model; `model(batch, training=False)` returns logits `[N]`; its batch is that of
        docs/data_formats.md with `features` and `request_index` only.
      encoding: the encoding that the model was trained with.
      directory: where the SavedModel appears, for example `serving_models/<name>/<version>`.
      warmup_rows: raw request rows that a server replays before it takes traffic; None writes no warm-up file.
      overwrite: replace what stands at `directory`.

    Returns:
      The directory.

    Raises:
      FileExistsError: if `directory` holds something and `overwrite` is False.
      ValueError: if a feature has the name of another signature input, or `warmup_rows` do not fit the spec.
    """
    import tensorflow as tf

    check_spec(encoding.spec)
    with _published(Path(directory), overwrite) as aside:
        spec_file = aside / SPEC_FILE
        spec_file.parent.mkdir()
        spec_file.write_text(encoding.spec.model_dump_json(indent=1), encoding="utf-8")
        if warmup_rows is not None:
            write_warmup_requests(aside, encoding.spec, warmup_rows)
        module, signatures = _ranker_module(model, encoding)
        # Tracing may have built the model, so its variables are collected only now. The model itself stays out: Keras
        # would trace and save each of its layers once more.
        module.model_variables = list(model.variables)
        tf.saved_model.save(module, str(aside), signatures=signatures)
    return Path(directory)


def _ranker_module(model, encoding: FeatureEncoding):
    """Returns the module that owns tables (and later variables), and its signatures by name."""
    import tensorflow as tf

    from serving.transforms import RawFeatureEncoder

    spec = encoding.spec
    of_request, of_candidate = spec.of_scope("request"), spec.of_scope("candidate")

    def rank(inputs, request_index):
        features = {feature.name: encoder.encode(feature.name, inputs[feature.name]) for feature in spec.features}
        logits = model({"features": features, REQUEST_INDEX: request_index}, training=False)
        logits = tf.cast(tf.reshape(logits, [-1]), tf.float32)
        return {"score": tf.sigmoid(logits), "logit": logits}

    def rank_one(**inputs):
        # Without a feature of their own all candidates are alike: the request is ranked as one candidate.
        first = inputs[of_candidate[0].name] if of_candidate else None
        count = 1 if first is None else tf.shape(first)[0]
        return rank(inputs, tf.zeros([count], tf.int32))

    def rank_many(**inputs):
        return rank(inputs, inputs[REQUEST_INDEX])

    module = tf.Module(name=f"{spec.name}_ranker")
    encoder = module.encoder = RawFeatureEncoder(encoding)
    one = {f.name: _tensor_spec(f, 1) for f in of_request} | {f.name: _tensor_spec(f, None) for f in of_candidate}
    many = {f.name: _tensor_spec(f, None) for f in spec.features}
    many[REQUEST_INDEX] = tf.TensorSpec([None], tf.int32, name=REQUEST_INDEX)
    return module, {
        SERVING_DEFAULT: tf.function(rank_one).get_concrete_function(**one),
        RANK_REQUESTS: tf.function(rank_many).get_concrete_function(**many),
    }


def _tensor_spec(feature: Feature, rows: int | None):
    import tensorflow as tf

    shape = [rows, None] if feature.multi_valued else [rows]
    return tf.TensorSpec(shape, tf.as_dtype(feature.dtype), name=feature.name)


@contextlib.contextmanager
def _published(directory: Path, overwrite: bool) -> Iterator[Path]:
    """Gives a hidden directory beside `directory` to write into; renames it if the body succeeds, else removes it."""
    _refuse_existing(directory, overwrite)
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = directory.parent / f".{directory.name}.{uuid.uuid4().hex}"
    aside.mkdir()
    try:
        yield aside
        # What was written meanwhile by another export is not ours to replace either.
        _refuse_existing(directory, overwrite)
        if directory.is_dir() and any(directory.iterdir()):
            _swap(aside, directory)
        else:
            os.replace(aside, directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(aside: Path, directory: Path) -> None:
    """Replaces a directory that is not empty: rename(2) cannot, so the old one is moved away first."""
    old = directory.parent / f"{aside.name}.old"
    os.replace(directory, old)
    try:
        os.replace(aside, directory)
    except OSError:
        os.replace(old, directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refuse_existing(directory: Path, overwrite: bool) -> None:
    if overwrite and not directory.is_file():
        return
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise FileExistsError(
            f"`directory` already holds an export and a served version never changes. Received: {directory}. Export "
            "under a new version, or pass `overwrite=True`."
        )
