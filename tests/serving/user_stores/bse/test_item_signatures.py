"""Items that came after the training: signed from their features, ranked, summed up in tables, and told in slices."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from evaluation.config import SIGNED_ITEM, SliceConfig
from evaluation.slices import find_slices
from features.errors import InputError
from features.examples.raw_sample import json_request
from features.histories.windows import attach_histories, read_behaviors
from features.items.catalogue import read_catalogue
from features.items.signatures import ItemSignatures
from pipeline.cli.app import app
from serving.offline.scoring import score_examples
from serving.ranker import Ranker
from serving.saved.ranker import SavedRanker
from serving.saved.two_tower import SavedTwoTower
from serving.user_stores.bse.item_signatures import NewItemSignatures, load_signatures, sign_new_items
from serving.user_stores.bse.table_job import SavedModelBehaviorEncoder, build_behavior_tables


@pytest.fixture(scope="module")
def own(cascade_work):
    return load_signatures(cascade_work / "autoint")


@pytest.fixture(scope="module")
def items(cascade_work):
    return read_catalogue(cascade_work / "raw" / "examples")


@pytest.fixture(scope="module")
def two_tower(cascade_work):
    return cascade_work / "two_tower"


NEW = 1_000_000_000
"""Added to an item's id it is one that nobody knows."""


def renamed(items):
    """The items under ids that nobody knows."""
    ids = pc.add(items["item_id"], NEW)
    return items.set_column(items.column_names.index("item_id"), "item_id", ids)


@pytest.fixture(scope="module")
def signed(cascade_work, own, items, two_tower, tmp_path_factory):
    """The folder of `bse sign`, of the whole catalogue under new ids."""
    work = tmp_path_factory.mktemp("signed")
    pq.write_table(renamed(items), work / "items.parquet")
    arguments = ["--two-tower", two_tower, "--items", work / "items.parquet", "--out", work / "all"]
    arguments += ["--signatures", cascade_work / "autoint", "--json"]
    done = CliRunner().invoke(app, ["bse", "sign", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"new": len(items), "signed_before": 0, "items": 2 * len(items)}
    return work / "all"


def test_an_item_that_nobody_has_seen_is_signed_as_if_it_were_known(own, items, signed):
    """The two-tower reads ids; a signature that used them would be another for an id that it does not know."""
    found, ids = load_signatures(signed), items["item_id"].combine_chunks()
    np.testing.assert_array_equal(found.of(pc.add(ids, NEW)), own.of(ids))


def test_an_old_item_signed_again_from_its_features_has_the_same_bits(own, items, two_tower):
    embeddings = SavedTwoTower(two_tower).embed_items(items, to_sign=True)
    np.testing.assert_array_equal(own.sign(embeddings), own.of(items["item_id"].combine_chunks()))
    assert len(np.unique(own.signatures, axis=0)) > len(items) / 2


def test_signed_items_keep_their_signatures_and_new_ones_follow(own, items, two_tower):
    both = pa.concat_tables([items.slice(0, 5), renamed(items).slice(0, 7)])
    found = sign_new_items(two_tower, own, both)
    np.testing.assert_array_equal(found.signatures[: len(own.item_ids)], own.signatures)
    assert found.item_ids[len(own.item_ids) :].to_pylist() == both["item_id"].to_pylist()[5:]
    expected = own.sign(SavedTwoTower(two_tower).embed_items(both, to_sign=True))[5:]
    np.testing.assert_array_equal(found.signatures[len(own.item_ids) :], expected)
    again = sign_new_items(two_tower, found, both)  # an earlier --out is where the next one starts
    np.testing.assert_array_equal(again.signatures, found.signatures)
    assert again.item_ids.equals(found.item_ids)


def requests_of(cascade_work, ranker, count=6):
    """Raw request rows with long histories, and their JSON."""
    tables = []
    for path in sorted((cascade_work / "raw" / "examples" / "Split-eval").glob("requests-*.parquet")):
        behaviors = read_behaviors(cascade_work / "raw" / "behaviors", path, ranker.spec.history)
        tables.append(attach_histories(pq.read_table(path), behaviors, ranker.spec.history))
    rows = pa.concat_tables(tables).sort_by([("history_end", "descending")]).slice(0, count)
    return [json_request(row, ranker.spec) for row in rows.to_pylist()]


def test_a_ranker_reads_the_signatures_of_new_items(cascade_work, signed):
    """The logits of a new item are those of the same item when the graph is told its signature by hand."""
    plain, told = Ranker(cascade_work / "autoint"), Ranker(cascade_work / "autoint", signatures=signed)
    given = ItemSignatures.load(signed)
    moved = 0
    for request in requests_of(cascade_work, plain):
        old = {item.index: item.logit for item in plain.rank(request)}
        assert {item.index: item.logit for item in told.rank(request)} == pytest.approx(old, abs=1e-5)
        new = {**request, "candidates": [{**c, "item_id": NEW + c["item_id"]} for c in request["candidates"]]}
        without = {item.index: item.logit for item in plain.rank(new)}
        found = {item.index: item.logit for item in told.rank(new)}
        moved += max(abs(found[i] - without[i]) for i in found) > 1e-3
        ids = pa.array([candidate["item_id"] for candidate in new["candidates"]])
        expected = NewItemSignatures(given, plain.directory).of(ids.to_numpy())
        np.testing.assert_array_equal(expected, given.of(ids))
        assert (expected >= 0).all()
    assert moved


def test_behaviours_of_new_items_enter_the_tables(cascade_work, signed, tmp_path):
    behaviors = cascade_work / "raw" / "behaviors"
    path = sorted(behaviors.glob("behaviors-*.parquet"))[0]
    table = pq.read_table(path)
    lists = table["item_id"].combine_chunks()
    new = pa.ListArray.from_arrays(lists.offsets, pc.add(lists.values, NEW))
    pq.write_table(table.set_column(table.column_names.index("item_id"), "item_id", new), tmp_path / path.name)
    ranker = cascade_work / "autoint"
    without = build_behavior_tables(ranker, tmp_path, tmp_path / "store")
    assert without["behaviors"] == 0 < without["unknown_behaviors"]
    built = build_behavior_tables(ranker, tmp_path, tmp_path / "store", signatures=signed)
    assert built["built"] and built["unknown_behaviors"] == 0
    assert built["behaviors"] == without["unknown_behaviors"]
    assert not build_behavior_tables(ranker, tmp_path, tmp_path / "store", signatures=signed)["built"]


def test_other_signatures_are_refused(cascade_work, own, items, signed, two_tower, tmp_path):
    flipped = ItemSignatures(own.item_ids, 7 - own.signatures, own.config, own.dim, own.center)
    with pytest.raises(InputError, match="were not made of this two-tower's embeddings"):
        sign_new_items(two_tower, flipped, items)
    flipped.save(tmp_path / "flipped")
    with pytest.raises(InputError, match="was trained with other signatures"):
        Ranker(cascade_work / "autoint", signatures=tmp_path / "flipped")
    with pytest.raises(InputError, match="the ranker holds no item signatures"):
        NewItemSignatures(own, str(cascade_work / "hcn" / "1"))
    with pytest.raises(InputError, match="holds no `signatures.parquet`"):
        load_signatures(two_tower)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items.drop(["category"]), "no column `category`, which the item tower reads"),
        (lambda items: items.drop(["item_id"]), "no column `item_id`"),
        (lambda items: pa.concat_tables([items, items]), "each its own"),
        (lambda items: items.set_column(0, "item_id", items["item_id"].cast("string")), "`item_id` must be int64"),
    ],
)
def test_items_that_cannot_be_signed_are_named(own, items, two_tower, change, message):
    assert items.column_names[0] == "item_id"
    with pytest.raises(InputError, match=message):
        sign_new_items(two_tower, own, change(items))


def test_scored_rows_tell_signed_from_unsigned_items(cascade_work, tmp_path):
    raw, behaviors = cascade_work / "raw" / "examples", cascade_work / "raw" / "behaviors"
    scored = score_examples(cascade_work / "autoint", raw, "eval", behaviors_dir=behaviors)
    known = set(SavedRanker(cascade_work / "autoint").signed_items.to_pylist())
    expected = ["signed" if item in known else "unsigned" for item in scored["item_id"].to_pylist()]
    assert scored[SIGNED_ITEM].to_pylist() == expected
    some = scored.set_column(scored.column_names.index(SIGNED_ITEM), SIGNED_ITEM, pa.array(["unsigned", *expected[1:]]))
    slices, _ = find_slices(some, SliceConfig(features=(SIGNED_ITEM,), min_rows=1))
    assert {part.value: len(part.rows) for part in slices} == {"signed": len(expected) - 1, "unsigned": 1}
    coarse = score_examples(cascade_work / "hcn", raw, "eval", behaviors_dir=behaviors)
    assert SIGNED_ITEM not in coarse.column_names
    assert find_slices(coarse, SliceConfig(features=(SIGNED_ITEM,))) == ([], [])


def test_an_encoder_completes_what_the_graph_does_not_know(cascade_work, signed):
    encoder = SavedModelBehaviorEncoder(cascade_work / "autoint", signed)
    given = ItemSignatures.load(signed)
    old = given.item_ids[0].as_py()
    names = encoder.history.features
    rows = {name: [None, None, None] for name in names} | {"item_id": [old, NEW + old, NEW]}
    types = {"title": pa.list_(pa.string()), "item_id": pa.int64()}
    table = pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in rows.items()})
    _, signatures, known = encoder.encode(table)
    assert known.tolist() == [True, True, False]
    np.testing.assert_array_equal(signatures[:2], given.of(pa.array([old, NEW + old])))
