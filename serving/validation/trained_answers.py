"""What a trained model itself answered to the export's warm-up rows, kept beside it.

The model is called before it is saved, on batches as training reads them: whoever opens the export, or serves it, can
hold its answers against those. The file is a Parquet table of the raw rows (docs/reference/data_formats.md, with their
windows) and one column more: `_trained_logit`, a list of a logit a candidate, of rankers; `_trained_embedding` of
two-towers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import list_lengths, lists_of, one_chunk, read_parquet, splits_of, write_parquet
from features.encoding.columns import KEYS
from features.encoding.feature_encoding import FeatureEncoding
from features.examples.shards import BEHAVIORS_DIR
from features.histories.windows import TIMESTAMP, history_column
from features.spec import FeatureSpec

ANSWERS_FILE = "assets.extra/trained_answers.parquet"

#: No feature's name begins with `_`.
TRAINED_LOGIT, TRAINED_EMBEDDING = "_trained_logit", "_trained_embedding"

#: As many rows as a warm-up request holds at most: enough to compare, and few megabytes with long histories.
MAX_ROWS = 32

_SHARD = "00000-of-00001.parquet"


def trained_answers(
    encoding: FeatureEncoding,
    rows: pa.Table,
    answer: Callable[[dict], Mapping[str, object]],
    item_ids: pa.Array | None = None,
) -> pa.Table:
    """Asks a trained model about raw rows as training would: encoded offline, read through the input pipeline.

    Args:
      encoding: that the model was trained with.
      rows: raw requests with their windows where the spec has histories; the first `MAX_ROWS` are taken.
      answer: of a batch (docs/reference/data_formats.md), the model's answers by column: `{TRAINED_LOGIT: [N]}`, or
        `{TRAINED_EMBEDDING: [B, d]}`.
      item_ids: raw ids of the catalogue whose signatures the model looks up; None: it looks none up.

    Returns:
      The rows with a column of lists for each answer.
    """
    rows = rows.slice(0, MAX_ROWS).combine_chunks()
    counts = list_lengths(one_chunk(rows["item_id"]))
    for name, values in answer(training_batch(encoding, rows, item_ids)).items():
        values = np.asarray(values, np.float32)
        lengths = counts if name == TRAINED_LOGIT else np.full(len(rows), values.shape[1])
        rows = rows.append_column(name, lists_of(values.reshape(-1), splits_of(lengths)))
    return rows


def write_answers(saved_model_dir: storage.AnyPath, answers: pa.Table) -> None:
    """Writes `trained_answers.parquet` into an export."""
    write_parquet(answers, storage.join(saved_model_dir, ANSWERS_FILE))


def read_answers(saved_model_dir: storage.AnyPath) -> pa.Table | None:
    """Reads the rows and the answers of an export; None where it was exported without warm-up rows."""
    path = storage.join(saved_model_dir, ANSWERS_FILE)
    return read_parquet(path) if storage.is_file(path) else None


def training_batch(encoding: FeatureEncoding, rows: pa.Table, item_ids: pa.Array | None = None) -> dict:
    """Returns raw rows as the one batch that training would make of them.

    The rows are encoded into files, as the pipeline encodes a log, and read by the input pipeline of training.

    Args:
      encoding, rows, item_ids: as of `trained_answers`.
    """
    from features.encoding.encode import encode_behaviors, encode_requests
    from models.inputs.config import InputConfig
    from models.inputs.input_pipeline import make_dataset

    spec = encoding.spec
    behaviors = behavior_log(spec, rows)
    if behaviors is None or "item_id" not in behaviors.column_names:
        item_ids = None
    with TemporaryDirectory(prefix="clickmill-") as folder:
        encoded = encode_requests(encoding, _as_examples(spec, rows, behaviors), item_ids)
        write_parquet(encoded, storage.join(folder, "Split-warmup", f"requests-{_SHARD}"))
        if behaviors is not None:
            log = encode_behaviors(encoding, behaviors, item_ids)
            write_parquet(log, storage.join(folder, BEHAVIORS_DIR, f"behaviors-{_SHARD}"))
        candidates = int(list_lengths(one_chunk(rows["item_id"])).sum())
        config = InputConfig(batch_size=max(candidates, 1))
        (batch,) = make_dataset(folder, "warmup", encoding, config, histories=behaviors is not None)
    return batch


def behavior_log(spec: FeatureSpec, rows: pa.Table) -> pa.Table | None:
    """A behaviour log in which the windows of each row are all that a user did; None where the rows have none."""
    windows = [window for window in ("long", "short") if history_column(window, TIMESTAMP) in rows.column_names]
    if spec.history is None or not windows:
        return None
    columns = {"user_id": pa.array([f"row {number}" for number in range(len(rows))])}
    for name in (*spec.history.features, TIMESTAMP):
        parts = [one_chunk(rows[history_column(window, name)]) for window in windows]
        lengths = np.stack([list_lengths(part) for part in parts], axis=1)
        # The places of each row's windows in what follows when all windows stand one after another.
        starts = np.cumsum(np.append(0, lengths.T.ravel()))[:-1].reshape(lengths.shape[::-1]).T
        order = [np.arange(s, s + n) for row in zip(starts, lengths, strict=True) for s, n in zip(*row, strict=True)]
        flat = pa.concat_arrays([part.flatten() for part in parts])
        taken = flat.take(pa.array(np.concatenate([*order, np.zeros(0, np.int64)]).astype(np.int64)))
        columns[name] = lists_of(taken, splits_of(lengths.sum(axis=1)))
    return pa.table(columns)


def _as_examples(spec: FeatureSpec, rows: pa.Table, behaviors: pa.Table | None) -> pa.Table:
    """Raw examples that refer to `behavior_log`, each row to the whole history of its own user."""
    item_ids = one_chunk(rows["item_id"])
    splits, number = splits_of(list_lengths(item_ids)), len(rows)
    ends = np.zeros(number, np.int64) if behaviors is None else list_lengths(one_chunk(behaviors[TIMESTAMP]))
    features = {feature.name for feature in spec.features}
    columns = {name: rows[name] for name in rows.column_names if name in features or name in KEYS}
    columns |= {
        "position": lists_of(np.zeros(splits[-1], np.int32), splits),
        spec.label: lists_of(np.zeros(splits[-1], np.float32), splits),
        "user_index": pa.array(np.arange(number, dtype=np.int32) if behaviors is not None else np.full(number, -1)),
        "history_end": pa.array(ends.astype(np.int32)),
    }
    return pa.table(columns)
