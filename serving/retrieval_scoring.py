"""Takes of a split as an exported two-tower embeds them: what the retrieval evaluator reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.raw_histories import attach_histories, history_column, read_behaviors
from features.spec import FeatureSpec
from serving.raw_requests import feature_tensor, list_lengths, window_tensors
from serving.retrieval_export import ITEM_EMBEDDINGS_FILE, USER_EMBEDDING, read_item_embeddings
from serving.saved_model import resolve_version
from serving.signature_inputs import SPEC_FILE


@dataclass(frozen=True, eq=False)
class EmbeddedTakes:
    """Takes and the corpus they were taken from.

    Attributes:
      queries: [Q, d] float32, the request of each take; a request with several takes stands several times.
      taken_ids: [Q] raw ids of the items that were taken.
      item_ids: [n] raw ids of the corpus, in its order.
      items: [n, d] float32.
    """

    queries: np.ndarray
    taken_ids: pa.Array
    item_ids: pa.Array
    items: np.ndarray


def embed_takes(
    saved_model_dir: str | Path,
    raw_examples_dir: str | Path,
    behaviors_dir: str | Path,
    split: str,
    label: str,
    *,
    batch_requests: int = 1024,
) -> EmbeddedTakes:
    """Embeds the requests of every positive candidate of a split through the signature `user_embedding`.

    Args:
      saved_model_dir: a two-tower's SavedModel, or a base directory of versions.
      raw_examples_dir: raw examples, with `Split-<split>/requests-*.parquet`.
      behaviors_dir: the raw behaviour log.
      split: name of the split.
      label: a candidate whose label is positive was taken.
      batch_requests: requests that are embedded at a time.

    Returns:
      The takes in the order of the files.

    Raises:
      FileNotFoundError: if there is no model, no such split or no behaviours of a shard.
    """
    import tensorflow as tf

    directory = resolve_version(saved_model_dir)
    spec = FeatureSpec.model_validate_json((directory / SPEC_FILE).read_text(encoding="utf-8"))
    item_ids, items = read_item_embeddings(directory / ITEM_EMBEDDINGS_FILE)
    module = tf.saved_model.load(str(directory))
    embed = module.signatures[USER_EMBEDDING]
    wanted = embed.structured_input_signature[1]
    windows = _windows(spec, wanted)
    features = [feature for feature in spec.of_scope("request") if feature.name in wanted]
    queries, taken = [np.zeros((0, items.shape[1]), np.float32)], []
    files = sorted(Path(raw_examples_dir, f"Split-{split}").glob("requests-*.parquet"))
    if not files:
        raise FileNotFoundError(f"no requests-*.parquet under {Path(raw_examples_dir, f'Split-{split}')}.")
    for batch in _batches(files, behaviors_dir, spec, [f.name for f in features], label, windows, batch_requests):
        positive = batch[label].combine_chunks().flatten().to_numpy(zero_copy_only=False) > 0
        ids = batch["item_id"].combine_chunks()
        owner = np.repeat(np.arange(len(batch)), list_lengths(ids))[positive]
        taken.append(ids.flatten().filter(pa.array(positive)))
        tensors = {feature.name: feature_tensor(feature, batch[feature.name].combine_chunks()) for feature in features}
        tensors |= window_tensors(spec, windows, batch)
        outputs = embed(**{name: tf.constant(tensors[name], wanted[name].dtype) for name in wanted})
        queries.append(outputs["embedding"].numpy()[owner])
    taken_ids = pa.concat_arrays(taken) if taken else pa.array([], item_ids.type)
    return EmbeddedTakes(np.concatenate(queries), taken_ids, item_ids, items)


def _windows(spec: FeatureSpec, wanted) -> dict[str, tuple[str, ...]]:
    names = spec.history.features if spec.history else ()
    read = tuple(name for name in names if history_column("short", name) in wanted)
    return {"short": read} if read else {}


def _batches(
    files: list[Path], behaviors_dir, spec: FeatureSpec, features: list[str], label: str, windows, size: int
) -> Iterator[pa.Table]:
    """Requests that took something, with their windows."""
    columns = list(dict.fromkeys([*features, "item_id", label, "user_index", "history_end"]))
    for path in files:
        behaviors = read_behaviors(behaviors_dir, path, spec.history) if windows else None
        for raw in pq.ParquetFile(path).iter_batches(size, columns=columns):
            batch = pa.Table.from_batches([raw])
            labels = batch[label].combine_chunks()
            parent = np.repeat(np.arange(len(batch)), list_lengths(labels))
            took = np.zeros(len(batch), bool)
            took[parent[labels.flatten().to_numpy(zero_copy_only=False) > 0]] = True
            batch = batch.filter(pa.array(took))
            if not len(batch):
                continue
            yield attach_histories(batch, behaviors, spec.history, windows) if windows else batch
