"""LogStatistics: TFDV's statistics of the ingested requests, computed on Arrow batches.

Emits a standard ExampleStatistics artifact, so SchemaGen, ImportSchemaGen and ExampleValidator follow unchanged. TFX's
own StatisticsGen reads Parquet row by row and turns zeros into missing values; see docs/pipeline.md.
"""

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from tfx.dsl.component.experimental.annotations import BeamComponentParameter, InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples, ExampleStatistics

from features import storage
from features.arrow import is_list, list_lengths, lists_of, open_parquet, splits_of

STATISTICS_FILE = "FeatureStats.pb"
ROWS_PER_BATCH = 4096
#: Identify rows; their statistics say nothing about the data and are the most expensive ones.
BOOKKEEPING_COLUMNS = ("request_id", "user_index")


def as_list_array(column: pa.Array) -> pa.ListArray:
    """Returns the column in the one shape that TFDV reads: a list of present values per row.

    A scalar becomes a list of one, null a null list; lists of lists are flattened by one level; nulls inside lists are
    dropped. The offsets start at zero, however the column was sliced.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    present = np.asarray(column.is_valid())
    if is_list(column.type):
        lengths, values = list_lengths(column), column.flatten()
        while is_list(values.type):
            inner_lengths, inner = list_lengths(values), values.flatten()
            lengths, values = _segment_sums(inner_lengths, lengths), inner
    else:
        lengths, values = np.ones(len(column), np.int64), column
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.null_count:
        lengths = _segment_sums(np.asarray(values.is_valid()).astype(np.int64), lengths)
        values = values.drop_null()
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int64())
    return lists_of(values, splits_of(lengths), missing=~present)


def statistics_batches(path: str) -> Iterator[pa.RecordBatch]:
    """Yields the requests of one Parquet file as RecordBatches for `tfdv.GenerateStatistics`."""
    with open_parquet(path) as file:
        columns = [name for name in file.schema_arrow.names if name not in BOOKKEEPING_COLUMNS]
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=columns):
            arrays = [as_list_array(column) for column in batch.columns]
            yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


@component(use_beam=True)
def LogStatistics(
    examples: InputArtifact[Examples],
    statistics: OutputArtifact[ExampleStatistics],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Writes `Split-*/FeatureStats.pb` for every split of the ingested examples."""
    import tensorflow_data_validation as tfdv

    splits = artifact_utils.decode_split_names(examples.split_names)
    with beam_pipeline as root:
        for split in splits:
            files = storage.entries(artifact_utils.get_split_uri([examples], split), "*.parquet")
            output = storage.join(statistics.uri, f"Split-{split}", STATISTICS_FILE)
            _ = (
                root
                | f"Files[{split}]" >> beam.Create(files)
                | f"Spread[{split}]" >> beam.Reshuffle()
                | f"Read[{split}]" >> beam.FlatMap(statistics_batches).with_output_types(pa.RecordBatch)
                | f"GenerateStatistics[{split}]" >> tfdv.GenerateStatistics(tfdv.StatsOptions())
                | f"Write[{split}]" >> tfdv.WriteStatisticsToBinaryFile(output)
            )
    statistics.split_names = examples.split_names
    statistics.span = examples.span


def _segment_sums(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sums consecutive segments of the given lengths."""
    total = np.concatenate([[0], np.cumsum(values)])
    ends = np.cumsum(lengths)
    return total[ends] - total[ends - lengths]
