"""Encoded examples whose requests also hold retrieved but unshown items: what a coarse ranker learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import arrow, storage
from features.encoding.columns import ITEM_ID, ITEM_ROW, SOURCE, TEACHER_LOGIT, WEIGHT, key_column
from features.errors import InputError
from features.examples.candidate_sets import (
    IMPRESSION,
    RETRIEVED,
    append_candidates,
    catalogue_values,
    sample_unshown,
)
from features.examples.config import CandidateSetConfig
from features.histories.windows import WINDOWS, attach_histories, read_behaviors
from features.items.catalogue import read_catalogue
from serving.requests.tensors import candidate_counts, tensors_from_table
from serving.saved.ranker import SavedRanker
from serving.saved.signature_specs import RANK_REQUESTS
from serving.saved.two_tower import RetrievedRows

_BATCH_REQUESTS = 2048


def make_coarse_examples(
    raw_dir: storage.AnyPath,
    behaviors_dir: storage.AnyPath,
    encoded_dir: storage.AnyPath,
    two_tower: storage.AnyPath,
    output_dir: storage.AnyPath,
    config: CandidateSetConfig,
    *,
    teacher: storage.AnyPath | None = None,
    splits: Sequence[str] = ("train", "eval"),
) -> dict[str, int]:
    """Adds to each request items of the two-tower's top n₁ that it did not show, sampled, with their weights.

    Features, keys and labels of the impressions stay as they are; added candidates follow them. New columns, lists of
    one value a candidate: `_weight` (1 for impressions, see `features.examples.candidate_sets.sample_unshown`),
    `_source`
    (0 impression, 1 retrieved), and with a teacher `_teacher_logit`. All other files (other splits, behaviours,
    catalogue) are the same ones.

    Args:
      raw_dir: raw examples; the retrieval and the teacher read raw values.
      behaviors_dir: the raw behaviour log.
      encoded_dir: the same examples, encoded.
      two_tower: an exported two-tower over the same catalogue.
      output_dir: where the examples are written; each file appears whole.
      config: how many items.
      teacher: an exported fine ranker, whose logits are kept for distillation.
      splits: which splits get unshown items.

    Returns:
      Numbers of `requests`, `impressions` and `added` candidates.

    Raises:
      FileNotFoundError: if something is not there.
      ValueError: if raw and encoded examples, or index and catalogue, do not belong together.
    """
    maker = _CandidateMaker(raw_dir, behaviors_dir, encoded_dir, two_tower, teacher, config)
    chosen = {f"Split-{split}" for split in splits}
    totals = {"requests": 0, "impressions": 0, "added": 0}
    for source in storage.files_under(encoded_dir):
        place = source.removeprefix(storage.join(encoded_dir, ""))
        target = storage.join(output_dir, place)
        if place.partition("/")[0] in chosen:
            for name, number in maker.write(place, target).items():
                totals[name] += number
        else:
            storage.copy(source, target)
    return totals


class _CandidateMaker:
    """What is loaded once for all files."""

    def __init__(self, raw_dir, behaviors_dir, encoded_dir, two_tower, teacher, config):
        self._raw_dir, self._behaviors_dir, self._encoded_dir = raw_dir, behaviors_dir, encoded_dir
        self._config, self._rng = config, np.random.default_rng(config.seed)
        self._raw_catalogue, self._catalogue = (read_catalogue(folder) for folder in (raw_dir, encoded_dir))
        self._retrieval = RetrievedRows(two_tower, self._raw_catalogue["item_id"])
        self._spec = self._retrieval.two_tower.spec
        self._teacher = SavedRanker(teacher) if teacher is not None else None

    def write(self, place: str, target: str) -> dict[str, int]:
        """Writes one file of requests; returns its numbers."""
        raw_file, totals = storage.join(self._raw_dir, place), {"requests": 0, "impressions": 0, "added": 0}
        behaviors = None
        if self._spec.history is not None:
            behaviors = read_behaviors(self._behaviors_dir, raw_file, self._spec.history)
        encoded_file = storage.join(self._encoded_dir, place)
        with arrow.open_parquet(raw_file) as raw, arrow.open_parquet(encoded_file) as encoded:
            if raw.metadata.num_rows != encoded.metadata.num_rows:
                raise InputError(f"{raw_file}: raw and encoded examples differ in length: encode them again.")
            # A table of no rows gives the schema, and stands for a file of no rows.
            schema, _ = self._with_unshown(
                raw.schema_arrow.empty_table(), encoded.schema_arrow.empty_table(), behaviors
            )
            with (
                storage.aside(target) as local,
                pq.ParquetWriter(local, schema.schema, compression="zstd") as writer,
            ):
                pairs = zip(raw.iter_batches(_BATCH_REQUESTS), encoded.iter_batches(_BATCH_REQUESTS), strict=True)
                for batches in pairs:
                    raw_rows, encoded_rows = (pa.Table.from_batches([batch]) for batch in batches)
                    if not raw_rows["request_id"].equals(encoded_rows[key_column("request_id")]):
                        raise InputError(f"{raw_file}: raw and encoded examples differ in order: encode them again.")
                    table, added = self._with_unshown(raw_rows, encoded_rows, behaviors)
                    writer.write_table(table.cast(schema.schema))
                    totals["requests"] += len(table)
                    totals["impressions"] += int(candidate_counts(raw_rows).sum())
                    totals["added"] += added
        return totals

    def _with_unshown(self, raw: pa.Table, encoded: pa.Table, behaviors: pa.Table | None) -> tuple[pa.Table, int]:
        if behaviors is not None:
            windows = WINDOWS if self._teacher is not None else WINDOWS[:1]
            raw = attach_histories(raw, behaviors, self._spec.history, windows=windows)
        shown = arrow.one_chunk(encoded[ITEM_ROW])
        shown_splits = arrow.list_splits(shown)
        rows, splits, weights = sample_unshown(
            self._retrieval.of(raw, self._config.retrieve),
            arrow.to_numpy(shown.flatten()),
            shown_splits,
            self._config.sample,
            self._rng,
        )
        values = catalogue_values(encoded, self._catalogue, rows, self._spec, encoded=True)
        table, new = append_candidates(encoded, values, splits, ITEM_ID)
        joined = shown_splits + splits
        of_all = np.ones(len(new), np.float32)
        of_all[new] = weights
        table = table.append_column(WEIGHT, arrow.lists_of(of_all, joined))
        table = table.append_column(
            SOURCE, arrow.lists_of(np.where(new, RETRIEVED, IMPRESSION).astype(np.int32), joined)
        )
        if self._teacher is not None:
            values = catalogue_values(raw, self._raw_catalogue, rows, self._spec, encoded=False)
            logits = self._teach(append_candidates(raw, values, splits, "item_id")[0], len(new))
            table = table.append_column(TEACHER_LOGIT, arrow.lists_of(logits, joined))
        return table, len(rows)

    def _teach(self, raw: pa.Table, count: int) -> np.ndarray:
        if not count:
            return np.zeros(0, np.float32)
        inputs = self._teacher.inputs(RANK_REQUESTS)
        tensors = tensors_from_table(self._teacher.spec, raw, self._teacher.history, inputs)
        return self._teacher.run(RANK_REQUESTS, tensors)["logit"]
