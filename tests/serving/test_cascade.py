"""The cascade of real exports: each stage passes what it should, and all agree with scoring everything."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.cascade.config import CascadeConfig, CascadeEvaluationConfig, CascadeGates
from evaluation.cascade.evaluate import evaluate_cascade
from evaluation.cascade.metrics import dcg, sigmoid
from evaluation.cascade.scores import CascadeScores, select
from features import storage
from features.examples.raw_sample import json_request
from features.histories.bucket_table import BucketTable
from features.items.catalogue import read_catalogue
from serving.bse.table_job import build_behavior_tables
from serving.cascade import Cascade, best_first
from serving.offline.cascade_scoring import (
    FineOverCatalogue,
    References,
    measure_stages,
    measure_whole_catalogue,
    sample_requests,
    score_cascade,
)
from serving.ranker import Ranker
from serving.requests.item_catalogue import ItemCatalogue
from serving.requests.json_request import RequestError
from serving.saved.attention import strongest_pairs
from tests.builders import cascade_example


@pytest.fixture(scope="module")
def work(cascade_work):
    return cascade_work


@pytest.fixture(scope="module")
def coarse(work):
    return cascade_example.DotProductCoarse(work / "two_tower" / "1", sign=-1.0)


@pytest.fixture(scope="module")
def cascade(work, coarse):
    return cascade_example.load(work, coarse)


@pytest.fixture(scope="module")
def requests(work, cascade):
    return sample_requests(work / "raw" / "examples", work / "raw" / "behaviors", "eval", cascade, 25)


@pytest.fixture(scope="module")
def row(requests):
    longest = max(range(len(requests[0])), key=lambda i: requests[0]["history_end"][i].as_py())
    return requests[0].slice(longest, 1)


def without_candidates(row: pa.Table, spec) -> dict:
    request = json_request(row.to_pylist()[0], spec)
    del request["candidates"]
    return request


def test_each_stage_passes_the_best_of_the_one_before(cascade, coarse, row):
    listed = cascade.recommend_row(row)
    ids, scores = cascade.two_tower.retrieve(row, 60)
    everything, every_score = cascade.two_tower.retrieve(row, 10**6)
    assert len(everything) == len(cascade.catalogue) and everything[:60].equals(ids)
    assert (np.diff(every_score[0]) <= 0).all()
    np.testing.assert_allclose(scores, every_score[:, :60], atol=1e-6)
    by_coarse = sorted(zip(-coarse.score(row, ids), ids.to_pylist(), strict=True))[:20]
    passed = [item for _, item in by_coarse]
    candidates = cascade.catalogue.rows(pa.array(passed))
    outputs = cascade.ranker.score_items(row, cascade.catalogue.tensors(candidates))
    best = np.argsort(-outputs["logit"])[:5]
    assert [item.item_id for item in listed] == [passed[i] for i in best]
    np.testing.assert_allclose([item.logit for item in listed], outputs["logit"][best], rtol=1e-6)
    np.testing.assert_allclose([item.score for item in listed], 1 / (1 + np.exp(-outputs["logit"][best])), rtol=1e-5)
    assert all(item.stages is None and item.attention is None for item in listed)


def test_candidate_features_of_the_catalogue_are_those_of_a_request(cascade, work, row):
    """The fine ranker scores an item from the catalogue as it scores the same item sent with a request."""
    request = json_request(row.to_pylist()[0], cascade.ranker.spec)
    ranked = {item.item_id: item.logit for item in cascade.ranker.rank(request)}
    rows = cascade.catalogue.rows(pa.array(list(ranked)))
    outputs = cascade.ranker.score_items(row, cascade.catalogue.tensors(rows))
    assert len(ranked) > 4
    np.testing.assert_allclose(outputs["logit"], list(ranked.values()), atol=1e-5)


def test_a_json_request_is_its_row(cascade, row):
    request = without_candidates(row, cascade.ranker.spec)
    of_json, of_row = cascade.recommend(request), cascade.recommend_row(row)
    assert [item.item_id for item in of_json] == [item.item_id for item in of_row]
    np.testing.assert_allclose([item.logit for item in of_json], [item.logit for item in of_row], atol=1e-5)
    with pytest.raises(RequestError, match="leave `candidates` out"):
        cascade.recommend(request | {"candidates": []})
    with pytest.raises(RequestError, match="Did you mean `device`"):
        cascade.recommend(request | {"context": {"devise": "ios"}})
    assert len(cascade.recommend({})) == 5  # nothing known of the user


def test_passing_everything_lists_the_ideal(work, coarse, row):
    size = len(cascade_example.load(work).catalogue)
    whole = cascade_example.load(work, coarse, retrieve=size, coarse=size)
    logits = FineOverCatalogue(whole.ranker, whole.catalogue).logits(row)
    best = best_first(logits, np.arange(size))[:5]
    listed = whole.recommend_row(row)
    assert [item.item_id for item in listed] == whole.catalogue.item_ids.take(pa.array(best)).to_pylist()
    np.testing.assert_allclose([item.logit for item in listed], logits[best], atol=1e-5)


def test_without_a_coarse_ranker_all_retrieved_reach_the_fine_one(work, row):
    cascade = cascade_example.load(work)
    items, _ = cascade.retrieve(row, 60)
    outputs = cascade.ranker.score_items(row, cascade.catalogue.tensors(items))
    expected = items[best_first(outputs["logit"], items)[:5]]
    listed = cascade.recommend_row(row, explain=True)
    assert [item.item_id for item in listed] == cascade.catalogue.item_ids.take(pa.array(expected)).to_pylist()
    assert set(listed[0].stages) == {"retrieve", "fine"}


def test_an_explanation_holds_every_stage_and_where_the_ranker_looked(cascade, coarse, row):
    listed = cascade.recommend_row(row, explain=True)
    plain = cascade.recommend_row(row)
    assert [item.item_id for item in listed] == [item.item_id for item in plain]
    ids, cosines = cascade.two_tower.retrieve(row, 60)
    negated = coarse.score(row, ids)
    for rank, item in enumerate(listed, start=1):
        place = ids.to_pylist().index(item.item_id)
        assert item.stages["fine"].rank == rank and item.stages["fine"].score == item.logit
        assert item.stages["retrieve"].rank == place + 1
        assert item.stages["retrieve"].score == pytest.approx(cosines[0, place])
        assert item.stages["coarse"].rank == int((negated > negated[place]).sum()) + 1 <= 20
        weights = [pair.weight for pair in item.attention]
        assert len(weights) == 5 and weights == sorted(weights, reverse=True) and 0 < weights[-1] <= 1
        assert all(pair.field != pair.attends_to for pair in item.attention)
        assert {pair.field for pair in item.attention} <= set(cascade.ranker.attention_fields)


def test_exported_attention_is_the_models(cascade, row):
    items, _ = cascade.retrieve(row, 7)
    maps = cascade.ranker.attention(row, cascade.catalogue.tensors(items))
    fields = cascade.ranker.attention_fields
    assert maps.shape == (7, 2, 2, len(fields), len(fields))
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)
    assert fields[-2:] == ("short_interest", "long_interest") or len(fields) > 10
    first = strongest_pairs(maps[3], fields, 1)[0]
    away = np.where(np.eye(len(fields), dtype=bool), 0, maps[3])
    assert first.weight == pytest.approx(away.max())
    assert maps[3][first.layer, first.head, fields.index(first.field), fields.index(first.attends_to)] == first.weight
    with pytest.raises(ValueError, match="`fields` must name"):
        strongest_pairs(maps[0], fields[1:])


def test_the_exported_hcn_is_a_coarse_stage(work, cascade, row):
    items = work / "raw" / "examples" / "catalogue" / "items.parquet"
    loaded = Cascade.load(work / "two_tower", work / "autoint", items, coarse=work / "hcn", config=cascade.config)
    retrieved, _ = loaded.retrieve(row, 60)
    scores = loaded.coarse_scores(row, retrieved)
    assert scores.shape == (60,) and len(np.unique(scores.round(5))) > 30
    passed = set(retrieved[best_first(scores, retrieved)[:20]].tolist())
    listed = loaded.recommend_row(row, explain=True)
    rows = loaded.catalogue.rows(pa.array([item.item_id for item in listed]))
    assert set(rows.tolist()) <= passed
    for item, at in zip(listed, rows, strict=True):
        assert item.stages["coarse"].score == pytest.approx(float(scores[np.flatnonzero(retrieved == at)[0]]), abs=1e-6)


def test_long_histories_from_the_store(work, cascade, coarse, requests, tmp_path):
    """With a store the user's table counts, not the request's own long history."""
    build_behavior_tables(work / "autoint", work / "raw" / "behaviors", tmp_path / "bse")
    items = work / "raw" / "examples" / "catalogue" / "items.parquet"
    stored = Cascade.load(work / "two_tower", work / "autoint", items, tables=tmp_path / "bse", config=cascade.config)
    stored.coarse = coarse
    row = requests[0].slice(0, 1)
    ranker = Ranker.with_store(work / "autoint", tmp_path / "bse")
    some, _ = cascade.retrieve(row, 20)
    tensors = cascade.catalogue.tensors(some)
    with_table = ranker.score_items(row, tensors)["logit"]
    table = ranker._tables(row["user_id"][0].as_py())
    assert isinstance(table, BucketTable) and table.counts[0].sum() > 0
    stranger = row.set_column(row.column_names.index("user_id"), "user_id", pa.array(["nobody"]))
    assert np.abs(with_table - ranker.score_items(stranger, tensors)["logit"]).max() > 1e-4
    listed = stored.recommend_row(row)
    logits = {item: logit for item, logit in zip(some.tolist(), with_table, strict=True)}
    rows = stored.catalogue.rows(pa.array([item.item_id for item in listed])).tolist()
    for item, at in zip(listed, rows, strict=True):
        if at in logits:
            assert item.logit == pytest.approx(logits[at], abs=1e-5)


def test_features_that_only_impressions_have_are_missing(cascade, work, row):
    items = read_catalogue(work / "raw" / "examples")
    without = ItemCatalogue(items.drop(["brand", "price", "title"]), cascade.ranker.spec)
    assert without.missing_features == ("brand", "price", "title") and cascade.catalogue.missing_features == ()
    tensors = without.tensors(np.arange(3))
    assert tensors["brand"].tolist() == [[b""] * 3] and np.isnan(tensors["price"]).all()
    assert tensors["title"].shape == (1, 3, 1) and not tensors["title_num_values"].any()
    request = json_request(row.to_pylist()[0], cascade.ranker.spec)
    bare = [
        {"item_id": c["item_id"], "category": c["category"], "subcategory": c["subcategory"]}
        for c in request["candidates"]
    ]
    ranked = sorted(cascade.ranker.rank(request | {"candidates": bare}), key=lambda item: item.index)
    rows = without.rows(pa.array([c["item_id"] for c in bare]))
    found = cascade.ranker.score_items(row, without.tensors(rows))["logit"]
    np.testing.assert_allclose(found, [item.logit for item in ranked], atol=1e-5)


def test_items_that_the_catalogue_lacks_are_left_out(cascade, work, coarse, row):
    items = read_catalogue(work / "raw" / "examples")
    half = ItemCatalogue(items.filter(pa.array(np.arange(len(items)) % 2 == 0)), cascade.ranker.spec)
    found = Cascade(cascade.two_tower, cascade.ranker, half, coarse, cascade.config)
    listed = found.recommend_row(row)
    assert listed and (half.rows(pa.array([item.item_id for item in listed])) >= 0).all()
    with pytest.raises(ValueError, match="`items` must hold items"):
        ItemCatalogue(items.slice(0, 0), cascade.ranker.spec)


def test_scored_requests_select_what_the_cascade_lists(cascade, requests):
    """One scoring gives the list of every (n1, n2) that serving gives, ties and pads included."""
    table = score_cascade(cascade, requests, width=100, top_k=5)
    scores = CascadeScores.from_table(table, len(cascade.catalogue))
    assert len(scores) == 25 and scores.width == 100
    rows = [part.slice(i, 1) for part in requests for i in range(len(part))]
    for n1, n2 in ((60, 20), (100, 7), (12, 12)):
        selection = select(scores, n1, n2, 5)
        cascade_at = Cascade(
            cascade.two_tower,
            cascade.ranker,
            cascade.catalogue,
            cascade.coarse,
            CascadeConfig(retrieve=n1, coarse=n2, top_k=5),
        )
        for number in (0, 11, 24):
            listed = cascade.catalogue.item_ids.take(pa.array(selection.listed[number])).to_pylist()
            assert [item.item_id for item in cascade_at.recommend_row(rows[number])] == listed
    labels = np.concatenate([pq_row["click"].combine_chunks().flatten().to_numpy() for pq_row in requests])
    assert scores.label.sum() + 0 == (labels > 0).sum() and scores.unknown_items == 0
    gates = CascadeGates(min_requests=25, min_ndcg_kept=0.0, max_cost_share=None)
    config = CascadeEvaluationConfig(retrieve_grid=(20, 100), coarse_grid=(10,), gates=gates)
    result = evaluate_cascade(scores, cascade.config, config)
    assert result.blessed and 0 < result.chosen.metrics["ndcg"].value < 1


def test_references_are_what_the_ranker_says_of_them(cascade, requests):
    """Every list beside the cascade, scored again item by item over the whole catalogue."""
    size = len(cascade.catalogue)
    popularity = np.random.default_rng(2).integers(0, 9, size)
    table = score_cascade(cascade, requests, width=60, top_k=5, references=References(popularity, draw=30, seed=4))
    scores = CascadeScores.from_table(table, size)
    found = scores.references
    rows = [part.slice(i, 1) for part in requests for i in range(len(part))]
    everything = FineOverCatalogue(cascade.ranker, cascade.catalogue)
    logits = np.stack([everything.logits(row) for row in rows])
    np.testing.assert_allclose(found.mean_probability, sigmoid(logits).mean(axis=1), rtol=1e-5)
    for name in ("random", "popular", "single"):
        listed = getattr(found, name)
        expected = np.take_along_axis(logits, listed.astype(np.int64), axis=1)
        np.testing.assert_allclose(getattr(found, f"{name}_logit"), expected, atol=1e-5)
    assert found.random.shape == (25, 30) and all(len(set(drawn)) == 30 for drawn in found.random.tolist())
    assert len({tuple(drawn) for drawn in found.random.tolist()}) == 25  # a draw of its own for each request
    assert (np.diff(popularity[found.popular[0]]) <= 0).all() and (found.popular == found.popular[0]).all()
    assert popularity[found.popular[0]].min() >= np.sort(popularity)[-5]
    np.testing.assert_array_equal(found.popularity, popularity[scores.item])
    worth = (sigmoid(logits) / dcg(sigmoid(scores.ideal_logit))[:, np.newaxis]).sum(axis=0)
    assert set(found.single[0]) == set(np.argsort(-worth)[:5]) and (found.single == found.single[0]).all()
    np.testing.assert_allclose(found.single_score, worth[scores.item], rtol=1e-5)
    # The same without references: nothing else changes.
    bare = score_cascade(cascade, requests, width=60, top_k=5)
    assert table.select(bare.column_names).equals(bare)
    with pytest.raises(ValueError, match=rf"`popularity` must be \[{size}\]"):
        score_cascade(cascade, requests, width=60, top_k=5, references=References(popularity[:-1], draw=30))


def test_the_sample_is_uniform_and_repeatable(work, cascade, requests):
    directories = work / "raw" / "examples", work / "raw" / "behaviors"
    again = sample_requests(*directories, "eval", cascade, 25)
    storage.copy_tree(work / "raw", "memory://sample")
    there = sample_requests("memory://sample/examples", "memory://sample/behaviors", "eval", cascade, 25)
    storage.delete("memory://sample")
    assert pa.concat_tables(there).equals(pa.concat_tables(again))
    ids = [pa.concat_tables(tables)["request_id"].to_pylist() for tables in (requests, again)]
    assert ids[0] == ids[1] and len(set(ids[0])) == 25
    other = sample_requests(*directories, "eval", cascade, 25, seed=1)
    assert pa.concat_tables(other)["request_id"].to_pylist() != ids[0]
    files = sorted((directories[0] / "Split-eval").glob("*.parquet"))
    total = sum(pq.read_metadata(path).num_rows for path in files)
    assert sum(len(table) for table in sample_requests(*directories, "eval", cascade, 10**6)) == total
    with pytest.raises(FileNotFoundError, match="split `evil` has no"):
        sample_requests(*directories, "evil", cascade, 3)


def test_every_stage_is_timed(cascade, requests):
    found = measure_stages(cascade, requests, (10, 40), repeats=2)
    assert set(found) == {"retrieve", "coarse", "fine"}
    for items, seconds in found.values():
        assert items.tolist() == [10, 40] and (seconds > 0).all()
    assert measure_whole_catalogue(cascade, requests, repeats=3).shape == (3,)
    one_request = [requests[0].slice(0, 1)]
    assert measure_whole_catalogue(cascade, one_request, repeats=3).shape == (1,)
