"""What keeps LogIngest whole on large logs: shards from all tables, and items beyond the 2 GiB of 32-bit offsets."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from features.arrow import read_parquet
from features.ingest.config import MAX_SHARDS
from features.ingest.ingest_logs import MIN_SHARDS, _default_shards
from features.ingest.joining.item_table import SideTable, WriteItems, load_items
from features.ingest.joining.shuffle import mark
from features.ingest.reading.files import LogFile
from features.ingest.reading.units import ReadUnit
from features.items.catalogue import CATALOGUE_FILE
from tests.builders.ingest_case import SPEC


def units(rows: int) -> list[ReadUnit]:
    file = LogFile("log.parquet", "parquet", None, (), {})
    return [ReadUnit(file, index, rows // 4) for index in range(4)]


def test_shards_come_from_all_tables_and_have_numbers():
    assert _default_shards({"impressions": units(40)}) == MIN_SHARDS
    few = {"impressions": units(400), "behaviors": units(128_000 * 9)}
    assert _default_shards(few) == 10
    assert _default_shards(few | {"users": units(128_000 * 5), "items": units(128_000 * 50)}) == 15
    assert _default_shards({"impressions": units(9_000_000_000)}) == MAX_SHARDS


def test_items_are_gathered_with_64_bit_offsets_and_read_as_what_they_are(tmp_path):
    texts = [None, ["x", "é"], [], ["y", None]]

    def batch(ids: list[int], first: int) -> pa.RecordBatch:
        columns = {
            "item_id": pa.array(ids),
            "f:price": pa.array([float(i) for i in ids]),
            "f:tags": pa.array([texts[i % 4] for i in ids], pa.list_(pa.string())),
            "_order": pa.array(np.arange(len(ids)) + first),
        }
        return mark(pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)), "items")

    path = str(tmp_path / "_items-0.arrow")
    # More rows than a chunk of the catalogue, and item 7 once more.
    group = (0, [batch([7], 90_000), batch(list(range(40_000)), 0)])
    *tallies, written = WriteItems(path, SPEC, str(tmp_path)).process(group)
    assert written == path and isinstance(tallies[0], TaggedOutput)
    assert tallies[0].value == {("table", "items", "duplicates"): 1, ("table", "items", "kept"): 40_000}
    with pa.ipc.open_file(path) as file:
        schema = file.schema
    assert schema.field("f:tags").type == pa.large_list(pa.large_string())

    items = load_items([path])
    found = items.find(pa.array([39_999, -5, 1]))
    tags = items.column(SPEC["tags"], found)
    assert tags.type == pa.list_(pa.string()) and tags.to_pylist() == [["y", None], None, ["x", "é"]]
    catalogue = read_parquet(tmp_path / CATALOGUE_FILE)
    assert catalogue.schema.field("tags").type == pa.list_(pa.string())
    assert catalogue["tags"].to_pylist() == [texts[i % 4] for i in range(40_000)]
    assert catalogue["item_id"].to_pylist() == list(range(40_000))


def test_text_ids_are_found_among_wide_ones():
    wide = pa.RecordBatch.from_arrays([pa.array(["b", "a"], pa.large_string())], names=["item_id"])
    assert SideTable("item_id", wide).find(pa.array(["a", "z", "b"])).to_pylist() == [1, None, 0]
