"""What all exports share: a SavedModel with its assets, which appears whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from features import storage
from features.errors import OccupiedError
from features.items.signatures import ItemSignatures
from features.spec import FeatureSpec
from serving.export.item_embeddings import write_item_embeddings
from serving.export.warmup import write_prediction_logs
from serving.saved.signature_specs import ATTENTION_FIELDS_FILE, SIGNATURES_FOLDER, SPEC_FILE, HistoryInputs
from serving.validation.trained_answers import write_answers


def publish_model(
    directory: storage.AnyPath,
    model,
    spec: FeatureSpec,
    build: Callable[[str], tuple],
    *,
    history: HistoryInputs | None = None,
    warmup: Callable[[dict], list] | None = None,
    answers: Callable[[], pa.Table] | None = None,
    item_embeddings: tuple[pa.Array, Mapping[str, np.ndarray]] | None = None,
    item_signatures: ItemSignatures | None = None,
    attention_fields: Sequence[str] | None = None,
    overwrite: bool = False,
) -> str:
    """Writes a SavedModel and publishes it.

    TensorFlow writes local files: they are written beside `directory` under a hidden name and renamed when all are
    there, or, where it is a URI, written here and then put there, `saved_model.pb` last.

    Args:
      directory: where it appears.
      model: whose variables are saved.
      spec: the features of the signatures.
      build: of a folder for the files of its look-up tables, makes the module that owns what else is saved, and its
        signatures by name.
      history: what the signatures take of behaviour histories.
      warmup: of the names of each signature's inputs, by signature, makes the requests that a server replays,
        `PredictionLog`s; None writes no warm-up file.
      answers: gives what the trained model itself answers to the warm-up rows (`serving.validation.trained_answers`).
      item_embeddings: ids [n] of the catalogue's items, and vectors [n, d] by file, for who reads them without
        TensorFlow.
      item_signatures: those that the model looks up, for who signs or recognises items.
      attention_fields: names of the fields of the signature `explain`, in its order.
      overwrite: replace what stands at `directory`.

    Returns:
      The directory.

    Raises:
      OccupiedError: if `directory` holds something and `overwrite` is False.
      ExportError: if TensorFlow Serving could not run the graph (`serving.export.graph_check`).
    """
    import tensorflow as tf

    from serving.export.graph_check import check_graph

    _refuse_existing(directory, overwrite)
    with storage.publishing(directory, replace=overwrite) as local, TemporaryDirectory(prefix="clickmill-") as assets:
        storage.write_text(storage.join(local, SPEC_FILE), spec.model_dump_json(indent=1))
        if history is not None:
            history.save(local)
        if item_embeddings is not None:
            item_ids, vectors = item_embeddings
            for file, embeddings in vectors.items():
                write_item_embeddings(item_ids, embeddings, storage.join(local, file))
        if item_signatures is not None:
            item_signatures.save(storage.join(local, SIGNATURES_FOLDER))
        if attention_fields is not None:
            storage.write_text(storage.join(local, ATTENTION_FIELDS_FILE), json.dumps(attention_fields))
        if answers is not None:  # before anything is traced or saved
            write_answers(local, answers())
        module, signatures = build(assets)
        if warmup is not None:
            write_prediction_logs(local, warmup({name: input_names(each) for name, each in signatures.items()}))
        # Tracing may have built the model, so its variables are collected only now. The model itself stays out: Keras
        # would trace and save each of its layers once more.
        module.model_variables = list(model.variables)
        tf.saved_model.save(module, local, signatures=signatures)
        check_graph(local)
        # What was written meanwhile by another export is not ours to replace either.
        _refuse_existing(directory, overwrite)
    return os.fspath(directory)


def input_names(signature) -> frozenset[str]:
    """The names of a traced signature's inputs."""
    return frozenset(signature.structured_input_signature[1])


def _refuse_existing(directory: storage.AnyPath, overwrite: bool) -> None:
    if storage.is_file(directory) or not overwrite and (storage.entries(directory) or storage.entries(directory, ".*")):
        raise OccupiedError(
            f"`directory` already holds an export and a served version never changes. Received: {directory}. Export "
            "under a new version, or pass `overwrite=True`."
        )
