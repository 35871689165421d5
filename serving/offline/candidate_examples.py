"""Encoded examples whose requests also hold retrieved but unshown items: what a coarse ranker learns from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.examples.candidate_sets import (
    IMPRESSION,
    RETRIEVED,
    SOURCE,
    TEACHER_LOGIT,
    WEIGHT,
    append_candidates,
    catalogue_values,
    list_column,
    sample_unshown,
)
from features.examples.config import CandidateSetConfig
from features.examples.shards import link
from features.histories.windows import WINDOWS, attach_histories, read_behaviors
from features.items.catalogue import read_catalogue
from serving.requests.tensors import candidate_counts, tensors_from_table
from serving.saved.saved_model import SavedRanker
from serving.saved.two_tower import RetrievedRows

_BATCH_REQUESTS = 2048


def make_coarse_examples(
    raw_dir: str | Path,
    behaviors_dir: str | Path,
    encoded_dir: str | Path,
    two_tower: str | Path,
    output_dir: str | Path,
    config: CandidateSetConfig,
    *,
    teacher: str | Path | None = None,
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
    maker = _Maker(Path(raw_dir), Path(behaviors_dir), Path(encoded_dir), two_tower, teacher, config)
    chosen = {f"Split-{split}" for split in splits}
    totals = {"requests": 0, "impressions": 0, "added": 0}
    for source in sorted(path for path in Path(encoded_dir).rglob("*") if path.is_file()):
        place = source.relative_to(encoded_dir)
        target = Path(output_dir) / place
        if place.parts[0] in chosen:
            target.parent.mkdir(parents=True, exist_ok=True)
            for name, number in maker.write(place, target).items():
                totals[name] += number
        else:
            link(source, target)
    return totals


class _Maker:
    """What is loaded once for all files."""

    def __init__(self, raw_dir: Path, behaviors_dir: Path, encoded_dir: Path, two_tower, teacher, config):
        self._raw_dir, self._behaviors_dir, self._encoded_dir = raw_dir, behaviors_dir, encoded_dir
        self._config, self._rng = config, np.random.default_rng(config.seed)
        self._raw_catalogue, self._catalogue = (read_catalogue(folder) for folder in (raw_dir, encoded_dir))
        self._retrieval = RetrievedRows(two_tower, self._raw_catalogue["item_id"])
        self._spec = self._retrieval.two_tower.spec
        self._teacher = SavedRanker(teacher) if teacher is not None else None

    def write(self, place: Path, target: Path) -> dict[str, int]:
        """Writes one file of requests; returns its numbers."""
        raw_file, totals = self._raw_dir / place, {"requests": 0, "impressions": 0, "added": 0}
        behaviors = None
        if self._spec.history is not None:
            behaviors = read_behaviors(self._behaviors_dir, raw_file, self._spec.history)
        aside = target.with_name(f".{target.name}.tmp")
        with pq.ParquetFile(raw_file) as raw, pq.ParquetFile(self._encoded_dir / place) as encoded:
            if raw.metadata.num_rows != encoded.metadata.num_rows:
                raise ValueError(f"{raw_file}: raw and encoded examples differ in length: encode them again.")
            # A table of no rows gives the schema, and stands for a file of no rows.
            schema, _ = self._with_unshown(
                raw.schema_arrow.empty_table(), encoded.schema_arrow.empty_table(), behaviors
            )
            with pq.ParquetWriter(aside, schema.schema, compression="zstd") as writer:
                pairs = zip(raw.iter_batches(_BATCH_REQUESTS), encoded.iter_batches(_BATCH_REQUESTS), strict=True)
                for batches in pairs:
                    raw_rows, encoded_rows = (pa.Table.from_batches([batch]) for batch in batches)
                    if not raw_rows["request_id"].equals(encoded_rows["_request_id"]):
                        raise ValueError(f"{raw_file}: raw and encoded examples differ in order: encode them again.")
                    table, added = self._with_unshown(raw_rows, encoded_rows, behaviors)
                    writer.write_table(table.cast(schema.schema))
                    totals["requests"] += len(table)
                    totals["impressions"] += int(candidate_counts(raw_rows).sum())
                    totals["added"] += added
        os.replace(aside, target)
        return totals

    def _with_unshown(self, raw: pa.Table, encoded: pa.Table, behaviors: pa.Table | None) -> tuple[pa.Table, int]:
        if behaviors is not None:
            windows = WINDOWS if self._teacher is not None else WINDOWS[:1]
            raw = attach_histories(raw, behaviors, self._spec.history, windows=windows)
        shown = encoded["_item_row"].combine_chunks()
        offsets = shown.offsets.to_numpy().astype(np.int64)
        rows, splits, weights = sample_unshown(
            self._retrieval.of(raw, self._config.retrieve),
            shown.flatten().to_numpy(zero_copy_only=False),
            offsets - offsets[0],
            self._config.sample,
            self._rng,
        )
        values = catalogue_values(encoded, self._catalogue, rows, self._spec, encoded=True)
        table, new = append_candidates(encoded, values, splits, "_item_id")
        joined = offsets - offsets[0] + splits
        of_all = np.ones(len(new), np.float32)
        of_all[new] = weights
        table = table.append_column(WEIGHT, list_column(of_all, joined))
        table = table.append_column(SOURCE, list_column(np.where(new, RETRIEVED, IMPRESSION).astype(np.int32), joined))
        if self._teacher is not None:
            values = catalogue_values(raw, self._raw_catalogue, rows, self._spec, encoded=False)
            logits = self._teach(append_candidates(raw, values, splits, "item_id")[0], len(new))
            table = table.append_column(TEACHER_LOGIT, list_column(logits, joined))
        return table, len(rows)

    def _teach(self, raw: pa.Table, count: int) -> np.ndarray:
        if not count:
            return np.zeros(0, np.float32)
        tensors = tensors_from_table(self._teacher.spec, raw, self._teacher.history)
        return self._teacher.rank_requests(tensors)["logit"]
