"""`clickmill predict`: nothing lost, the scores of `Ranker.rank`, whole after a kill, no folder of two jobs."""

import bz2
import gzip
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import InputError, NotFoundError, OccupiedError
from serving.offline import request_scorer
from serving.offline.prediction import PredictionModel, RejectedRequestsError, predict_requests
from serving.ranker import Ranker
from tests.builders.small_ranker import json_request, random_requests

ROOT = Path(__file__).parents[3]
BAD = {
    b'{"candidates": [': "not_json",
    b"[1, 2]": "bad_request",
    b'"text"': "bad_request",
    b'{"candidates": [{"prise": 1.0}]}': "bad_request",
    b'{"user": {"age_band": "30s"}}': "bad_request",
    b'{"candidates": [{"item_id": "\xff"}]}': "not_utf_8",
    b"[" * 100_000: "not_json",
    b'{"candidates": [{"price": "\\ud800"}]}': "bad_request",
}


def some_requests(count, seed=0):
    return [json_request(row) for row in random_requests(count, seed=seed).to_pylist()]


def lines_of(requests):
    return [json.dumps(request, ensure_ascii=False).encode() for request in requests]


def predict(base_dir, requests, out, **options):
    return predict_requests([str(path) for path in requests], str(out), PredictionModel(str(base_dir)), **options)


def read(folder, kind="scores"):
    """The rows of a prediction, in the order of files and lines."""
    tables = [pq.read_table(path).replace_schema_metadata() for path in sorted(folder.glob(f"{kind}-*.parquet"))]
    return pa.concat_tables(tables).to_pylist() if tables else []


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Files of every packing and form, and what became of each of their lines: `{(file, line): request or reason}`."""
    folder = tmp_path_factory.mktemp("planted")
    truth = {}
    rng = np.random.default_rng(5)

    def file(name, requests, write):
        lines = []
        for request in requests:
            while rng.random() < 0.15:
                bad, reason = list(BAD.items())[rng.integers(len(BAD))]
                lines.append(bad)
                truth[str(folder / name), len(lines)] = reason
            if rng.random() < 0.1:
                lines.append(b" \t")
            if rng.random() < 0.1:
                lines.append(b'{"candidates": [], "request_id": "none"}')
                truth[str(folder / name), len(lines)] = None
            lines += lines_of([request])
            truth[str(folder / name), len(lines)] = request
        write(folder / name, lines)

    file("plain.jsonl", some_requests(90, 1), lambda path, lines: path.write_bytes(b"\n".join(lines)))
    file("crlf.ndjson", some_requests(20, 2), lambda path, lines: path.write_bytes(b"\r\n".join(lines) + b"\r\n"))
    mark = b"\xef\xbb\xbf"
    file("marked.jsonl", some_requests(20, 3), lambda path, lines: path.write_bytes(mark + b"\n".join(lines) + b"\n"))
    file("a.jsonl.gz", some_requests(30, 4), lambda path, lines: path.write_bytes(gzip.compress(b"\n".join(lines))))
    file("b.jsonl.bz2", some_requests(10, 5), lambda path, lines: path.write_bytes(bz2.compress(b"\n".join(lines))))
    (folder / "empty.jsonl").touch()
    rows = some_requests(50, 6)
    rows[7] = {"request_id": "none", "candidates": []}
    rows[9] = {"request_id": "bad", "candidates": None}
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet", row_group_size=8)
    for line, request in enumerate(rows, 1):
        truth[str(folder / "table.parquet"), line] = request
    truth[str(folder / "table.parquet"), 8] = None
    truth[str(folder / "table.parquet"), 10] = "bad_request"
    return folder, truth


def test_nothing_is_lost_and_all_is_as_rank_says(base_dir, planted, tmp_path):
    folder, truth = planted
    found = predict(base_dir, [folder], tmp_path / "out", unit_bytes=4000, max_rejected=1.0)
    assert found["units"] > 20 and found["scored_now"] == found["units"]
    scored = {}
    for row in read(tmp_path / "out"):
        scored.setdefault((row["file"], row["line"]), []).append(row)
    rejected = {(row["file"], row["line"]): row for row in read(tmp_path / "out", "rejected")}
    assert {place for place, what in truth.items() if isinstance(what, dict)} == set(scored)
    assert {place: what for place, what in truth.items() if isinstance(what, str)} == {
        place: row["reason"] for place, row in rejected.items()
    }
    ranker = Ranker(base_dir)
    for place, rows in scored.items():
        request = truth[place]
        expected = {i.index: i for i in ranker.rank(request)}
        assert [row["index"] for row in rows] == list(range(len(request["candidates"])))
        for row in rows:
            item = expected[row["index"]]
            assert (row["item_id"], row["request_id"]) == (item.item_id, request["request_id"])
            assert math.isclose(row["score"], item.score, abs_tol=1e-6)
            assert math.isclose(row["logit"], item.logit, rel_tol=1e-6, abs_tol=2e-6)
            assert (row["model"], row["model_version"], row["release"]) == ("shop", 3, None)
            assert row["long_history_used"] is False
    total = found["total"]
    reasons = Counter(what for what in truth.values() if isinstance(what, str))
    assert total["reasons"] == dict(reasons) and total["rejected"] == len(rejected)
    assert total["requests"] == len(truth) == total["scored"] + total["empty"] + total["rejected"]
    assert total["candidates"] == total["kept"] == sum(map(len, scored.values()))
    written = json.loads((tmp_path / "out" / "prediction.json").read_text(encoding="utf-8"))
    assert written == {name: value for name, value in found.items() if name not in ("units", "scored_now")}
    assert sum(each["requests"] for each in written["files"].values()) == len(truth)
    assert str(folder / "empty.jsonl") in written["files"]


def test_rejected_requests_are_shown_cut(base_dir, tmp_path):
    text = '{"candidates": [{"prise": "' + "é" * 5000 + '"}]}'
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(RejectedRequestsError, match=r"1 of 1 requests cannot be ranked \(1 bad_request\).*--max-rej"):
        predict(base_dir, [tmp_path / "a.jsonl"], tmp_path / "out")
    assert not (tmp_path / "out" / "prediction.json").exists()
    (row,) = read(tmp_path / "out", "rejected")
    assert len(row["text"].encode()) in (4095, 4096) and text.startswith(row["text"])
    assert row["line"] == 1 and "Did you mean `price`?" in row["detail"]
    found = predict(base_dir, [tmp_path / "a.jsonl"], tmp_path / "out", max_rejected=1.0)
    assert found["scored_now"] == 0 and (tmp_path / "out" / "prediction.json").exists()


@pytest.mark.parametrize("unit_bytes", [1, 700, 4096, 10**9])
def test_where_a_file_is_cut_changes_no_line(base_dir, planted, tmp_path, unit_bytes):
    from features.examples.request_files import plan_units, read_requests

    folder, truth = planted
    for name in ("plain.jsonl", "crlf.ndjson", "marked.jsonl", "table.parquet"):
        units = plan_units([str(folder / name)], unit_bytes)
        read = [request.place for unit in units for request in read_requests(unit)]
        assert read == [line for path, line in truth if path == str(folder / name)]
        size = (folder / name).stat().st_size
        if name != "table.parquet":
            assert [unit.start for unit in units[1:]] == [unit.stop for unit in units[:-1]]
            assert all(
                unit.start // unit_bytes > before.start // unit_bytes
                for before, unit in zip(units, units[1:], strict=False)
            )
            assert len(units) == 1 or unit_bytes < size


def test_the_best_of_each_request(base_dir, tmp_path):
    requests, ranker = some_requests(30, 8), Ranker(base_dir)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines_of(requests)))
    found = predict(base_dir, [tmp_path / "a.jsonl"], tmp_path / "out", top=2)
    rows = read(tmp_path / "out")
    for line, request in enumerate(requests, 1):
        mine = [row["index"] for row in rows if row["line"] == line]
        assert len(mine) == min(2, len(request["candidates"]))
        assert mine == [item.index for item in ranker.rank(request, k=2)]
    assert found["total"]["kept"] == len(rows) < found["total"]["candidates"]


def test_what_is_scored_is_not_scored_again(base_dir, tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(lines_of(some_requests(60, ord(name)))))
    inputs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    units = predict(base_dir, inputs, tmp_path / "out", unit_bytes=5000)["units"]
    before = content(tmp_path / "out")
    assert predict(base_dir, inputs, tmp_path / "out", unit_bytes=5000)["scored_now"] == 0
    assert content(tmp_path / "out") == before
    lost = sorted((tmp_path / "out").glob("scores-b*"))[1]
    lost.unlink()
    (tmp_path / "out" / ".scores-b.x.tmp").touch()
    assert predict(base_dir, inputs, tmp_path / "out", unit_bytes=5000)["scored_now"] == 1
    assert content(tmp_path / "out") == before
    # A file that was written again is scored again, and leaves no part of what it was.
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(lines_of(some_requests(5, 99))))
    found = predict(base_dir, inputs, tmp_path / "out", unit_bytes=5000)
    assert 0 < found["scored_now"] < units and len(list((tmp_path / "out").glob("scores-*"))) == found["units"] < units
    fresh = predict(base_dir, inputs, tmp_path / "fresh", unit_bytes=5000)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")
    assert fresh["scored_now"] == fresh["units"]


def test_the_parts_of_another_job_are_refused_by_name(base_dir, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(lines_of(some_requests(3, ord(name)))))
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    predict(base_dir, [first, second], tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(OccupiedError, match=r"scores-a.*`top` None instead of 1.*--overwrite"):
        predict(base_dir, [first, second], tmp_path / "out", top=1)
    with pytest.raises(OccupiedError, match=r"scores-a.*holds the scores of .*a\.jsonl, which is not among"):
        predict(base_dir, [second], tmp_path / "out")
    moved = tmp_path / "shop" / "4"
    shutil.copytree(base_dir / "3", moved)
    with pytest.raises(OccupiedError, match=r"`model_version` 3 instead of 4"):
        predict(moved, [first, second], tmp_path / "out")
    assert content(tmp_path / "out") == before
    predict(base_dir, [second], tmp_path / "out", top=1, overwrite=True)
    predict(base_dir, [second], tmp_path / "other", top=1)
    assert content(tmp_path / "out") == content(tmp_path / "other")
    (tmp_path / "out" / "scores-mine.parquet").write_bytes(b"mine")
    with pytest.raises(OccupiedError, match="scores-mine.parquet is no part of a prediction"):
        predict(base_dir, [second], tmp_path / "out", top=1, overwrite=True)


def test_files_that_hold_no_requests_are_named(base_dir, tmp_path):
    def said(name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as found:
            predict(base_dir, [tmp_path / name], tmp_path / "out")
        assert name in str(found.value)
        return str(found.value)

    assert "does not fit into a line of CSV" in said("a.csv", b"request_id\nr1\n")
    assert "is a JSON array" in said("a.json", b"[{}]")
    whole = gzip.compress(b"\n".join(lines_of(some_requests(9))))
    assert "in the middle of its gzip stream" in said("cut.jsonl.gz", whole[:-20])
    pq.write_table(pa.table({"candidate": [1]}), tmp_path / "x.parquet")
    assert "Did you mean `candidates`" in said("x.parquet", (tmp_path / "x.parquet").read_bytes())
    with pytest.raises(NotFoundError, match="`model_dir` must be a SavedModel"):
        (tmp_path / "a.jsonl").write_bytes(b'{"candidates": []}')
        predict(tmp_path / "nothing", [tmp_path / "a.jsonl"], tmp_path / "out")
    with pytest.raises(InputError, match="lies in the folder that the scores are written to"):
        predict(base_dir, [tmp_path / "a.jsonl"], tmp_path)


def test_a_damaged_file_leaves_the_others_scored(base_dir, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines_of(some_requests(9))))
    packed = bytearray(gzip.compress(b"\n".join(lines_of(some_requests(4000))), mtime=0))
    packed[len(packed) // 2] ^= 255
    (tmp_path / "b.jsonl.gz").write_bytes(packed)
    inputs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"]
    with pytest.raises(InputError, match="b.jsonl.gz.*The same command goes on from here"):
        predict(base_dir, inputs, tmp_path / "out")
    assert [path.name[:8] for path in (tmp_path / "out").iterdir()] == ["scores-a"]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"candidates": []}'))
    assert predict(base_dir, inputs, tmp_path / "out")["scored_now"] == 1


def test_slates_of_very_different_widths_do_not_grow_together(base_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(request_scorer, "_BATCH_CANDIDATES", 100)
    requests = [{"candidates": [{"item_id": f"i{n}"} for n in range(count)]} for count in (1, 90, 2, 40, 40, 300, 1, 1)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines_of(requests)))
    shapes = []
    run = request_scorer.SlateRanker.score_slates

    def watched(self, tensors):
        shapes.append(tensors["item_id"].shape)
        return run(self, tensors)

    monkeypatch.setattr(request_scorer.SlateRanker, "score_slates", watched)
    found = predict(base_dir, [tmp_path / "a.jsonl"], tmp_path / "out")
    assert found["total"]["candidates"] == 475 == len(read(tmp_path / "out"))
    assert shapes == [(1, 1), (1, 90), (2, 40), (1, 40), (1, 300), (2, 1)]
