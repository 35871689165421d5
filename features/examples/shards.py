"""Where the requests of a split lie, in raw and in encoded examples (docs/reference/data_formats.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import is_list, open_parquet, read_parquet, splits_of
from features.config import nearest
from features.errors import NotFoundError, UnscorableError
from features.spec import Feature
from features.storage import AnyPath

#: In encoded examples: the folder of the behaviour log.
BEHAVIORS_DIR = "behaviors"


#: In raw examples: columns that the spec does not name and a model beside the new one reads, row by row as the splits.
KEPT_DIR = "kept"

#: In raw examples: users' features, in the shards of their requests.
USERS_DIR = "users"


def behaviors_file(requests: AnyPath) -> str:
    """Returns the name of the file of the behaviour log that a file of requests refers to."""
    return storage.name(requests).replace("requests-", "behaviors-", 1)


def list_shards(examples_dir: AnyPath, split: str) -> list[str]:
    """Returns the Parquet files of a split in shard order.

    Raises:
      NotFoundError: if the split has none; the message names the splits that are there.
    """
    folder = storage.join(examples_dir, f"Split-{split}")
    shards = storage.entries(folder, "requests-*.parquet")
    if not shards:
        present = [storage.name(path).removeprefix("Split-") for path in storage.entries(examples_dir, "Split-*")]
        raise NotFoundError(
            f"{folder}: split `{split}` has no requests-*.parquet. Splits there: {', '.join(present) or 'none'}."
        )
    return shards


def rows_of(shard: AnyPath) -> int:
    """Returns the rows of a Parquet file."""
    with open_parquet(shard) as file:
        return int(file.metadata.num_rows)


def kept_file(shard: AnyPath) -> str:
    """Returns where the kept columns of a file of raw requests are, if there are any."""
    split = storage.parent(shard)
    return storage.join(storage.parent(split), KEPT_DIR, storage.name(split), storage.name(shard))


def request_batches(
    shard: AnyPath, columns: Iterable[str], features: Iterable[Feature], batch_rows: int
) -> Iterator[pa.Table]:
    """Reads columns of a file of raw requests, kept ones too; a file of no rows gives one table of none.

    Args:
      shard: the file.
      columns: further columns than those of the features.
      features: whose columns are read, and must have the form that the feature says.
      batch_rows: requests in a table, at most.

    Raises:
      UnscorableError: if a column is not there, or has another form; the message names all that are.
    """
    features = tuple(features)
    columns = list(dict.fromkeys([*columns, *(feature.name for feature in features)]))
    with open_parquet(shard) as file:
        schema = file.schema_arrow
        beside = [name for name in columns if name not in schema.names]
        kept = pa.table({})
        if beside and storage.is_file(kept_file(shard)):
            kept = read_parquet(kept_file(shard))
            kept = kept.select([name for name in beside if name in kept.column_names])
        missing = [name for name in beside if name not in kept.column_names]
        if missing:
            raise UnscorableError(
                f"{shard} has no column {_listed(missing)}.{nearest(missing[0], [*schema.names, *kept.column_names])}"
            )
        kinds = {name: (schema if name in schema.names else kept.schema).field(name).type for name in columns}
        misfits = [feature for feature in features if not _fits(feature, kinds[feature.name])]
        if misfits:
            told = ", ".join(f"`{each.name}` ({each.dtype}, {each.scope}; here {kinds[each.name]})" for each in misfits)
            raise UnscorableError(f"{shard} does not hold what the model reads: {told}.")
        here = [name for name in columns if name in schema.names]
        at = 0
        batches = file.iter_batches(batch_rows, columns=here) if file.metadata.num_rows else iter(())
        for batch in batches:
            table = pa.Table.from_batches([batch])
            for name in kept.column_names:
                table = table.append_column(name, kept[name].slice(at, len(table)))
            at += len(table)
            yield table
        if not at:
            yield pa.table({name: pa.array([], kind) for name, kind in kinds.items()})


def _fits(feature: Feature, kind: pa.DataType) -> bool:
    """Whether a column of raw requests can hold a feature: lists as deep, and numbers where it takes them."""
    depth = int(feature.scope == "candidate") + int(feature.multi_valued)
    while depth and is_list(kind):
        kind, depth = kind.value_type, depth - 1
    if pa.types.is_null(kind):
        return True
    if depth or is_list(kind):
        return False
    return feature.dtype == "string" or not (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def draw_requests(shards: Sequence[str], count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """Draws requests of a split uniformly, without replacement; all where there are fewer.

    Returns:
      Of each shard that any was drawn from, the file and the rows, both in order.
    """
    sizes = [rows_of(path) for path in shards]
    drawn = np.sort(np.random.default_rng(seed).permutation(sum(sizes))[:count])
    parts = np.split(drawn, np.searchsorted(drawn, np.cumsum(sizes)[:-1]))
    found = [(path, rows - first) for path, rows, first in zip(shards, parts, splits_of(sizes), strict=False)]
    return [(path, rows) for path, rows in found if len(rows)]
