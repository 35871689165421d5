"""What is proposed for logs of other houses: tables told by names or columns, features, labels, suspects."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from features.errors import InputError, NotFoundError
from features.ingest.config import IngestConfig
from features.ingest.ingest_logs import run_ingest
from features.spec import FeatureSpec
from pipeline.own_logs.column_statistics import auc_alone, statistics_of
from pipeline.own_logs.guess_tables import guess_tables, plain_name
from pipeline.own_logs.propose import propose

T = 1_700_000_000_000
ROWS = 4_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop's log: other names, clicks in their own table, one column that was written after the click."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    request = np.arange(ROWS) // 4
    user = request % 50
    item = np.array([rng.permutation(40)[:4] for _ in range(ROWS // 4)]).ravel()
    clicked = rng.random(ROWS) < 0.2 + 0.2 * (item % 2)
    shown = {
        "sessionId": [f"s{r}" for r in request],
        "event_time": T + request * 600_000,
        "uid": [f"u{u}" for u in user],
        "sku": item,
        "hour": request // 6 % 24,
        "slot_colour": rng.choice(["red", "blue"], ROWS),
        "dwell": np.where(clicked, rng.integers(5, 90, ROWS), 0),
        "version": ["v1"] * ROWS,
        "trace": [f"t{i}" for i in range(ROWS)],
    }
    pq.write_table(pa.table(shown), folder / "impressions.parquet")
    hits = np.flatnonzero(clicked)
    clicks = {"sessionId": [f"s{request[i]}" for i in hits], "sku": item[hits], "ts": T + request[hits] * 600_000 + 5}
    pq.write_table(pa.table(clicks), folder / "clicks.parquet")
    items = {"sku": range(40), "tags": [[f"t{i % 7}", "x"] for i in range(40)], "price": np.exp(rng.normal(3, 2, 40))}
    pq.write_table(pa.table(items), folder / "items.parquet")
    (folder / "users.csv").write_text("uid;city\n" + "".join(f"u{i};{'Oslo' if i % 3 else ''}\n" for i in range(50)))
    return folder


def lines_of(text: str, name: str) -> str:
    (line,) = [line for line in text.splitlines() if f"name: {name}," in line]
    return line


def test_a_shops_log_is_proposed_and_runs_as_it_is(shop, tmp_path):
    proposal = propose([str(shop)], "shop", "features_shop.yaml")
    spec = FeatureSpec.model_validate(yaml.safe_load(proposal.spec))
    config = IngestConfig.model_validate(yaml.safe_load(proposal.profile)["ingest"])
    assert config.tables.impressions.columns == {
        "request_id": "sessionId", "timestamp": "event_time", "user_id": "uid", "item_id": "sku",
    }  # fmt: skip
    assert config.tables.users.delimiter == ";" and not config.request_columns and not proposal.asked
    assert {feature.name for feature in spec.features} == {"city", "hour", "slot_colour", "item_id", "tags", "price"}
    assert spec["hour"].scope == "request" and spec["slot_colour"].scope == "candidate"
    assert (spec["item_id"].dtype, spec["tags"].kind) == ("int64", "multi_categorical")
    assert (spec["price"].kind, spec["price"].transform) == ("numeric", "log_squared")
    assert "LEAKAGE?" in lines_of(proposal.spec, "dwell") and lines_of(proposal.spec, "dwell").lstrip().startswith("#")
    assert "it has one value" in lines_of(proposal.spec, "version")
    assert "value of its own" in lines_of(proposal.spec, "trace")
    assert "34.0% missing" in lines_of(proposal.spec, "city")
    counts = run_ingest(config, spec, tmp_path / "examples", tmp_path / "behaviors", tmp_path / "dead")
    assert counts.tables["impressions"].kept + counts.tables["impressions"].immature == ROWS
    assert not counts.unknown_items and not counts.unknown_users


def test_ratings_in_seconds_become_a_label(tmp_path):
    rows = [f"{u}\t{i}\t{1 + (u + i) % 5}\t{978_300_000 + u * 10}" for u in range(40) for i in range(20)]
    (tmp_path / "ml.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(rows)
    )
    (tmp_path / "ml.item").write_text("item_id:token\tgenre\n" + "".join(f"{i}\tA|B\n" for i in range(20)))
    proposal = propose([str(tmp_path)], "movies", "f.yaml")
    table = proposal.ingest["tables"]["impressions"]
    assert (table["timestamp_unit"], table["delimiter"], table["format"]) == ("s", "\t", "csv")
    assert proposal.ingest["request_columns"] == ["user_id", "timestamp"]
    assert proposal.ingest["labels"] == [{"name": "rating", "column": "rating:float", "at_least": 3.0}]
    assert "counts as positive from 3 on (60% of the rows)" in proposal.asked[0] and "ASKED" in proposal.profile
    assert FeatureSpec.model_validate(yaml.safe_load(proposal.spec))["genre"].multi_valued
    config = IngestConfig.model_validate(proposal.ingest)
    spec = FeatureSpec.model_validate(yaml.safe_load(proposal.spec))
    counts = run_ingest(config, spec, tmp_path / "o/examples", tmp_path / "o/behaviors", tmp_path / "o/dead")
    assert sum(counts.requests.values()) == 40 and sum(counts.positives["rating"].values()) == 480


def test_json_lines_with_times_that_have_no_zone(tmp_path):
    rows = [
        {
            "user": f"u{i % 9}",
            "item": f"i{i % 11}",
            "time": f"2026-11-{1 + i % 20:02d} 10:00:00",
            "click": i % 2,
            "n": i / 7,
        }
        for i in range(400)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    proposal = propose([f"impressions={tmp_path / 'log.jsonl'}"], "x", "f.yaml")
    spec = FeatureSpec.model_validate(yaml.safe_load(proposal.spec))
    assert spec.timezone == "UTC" and any("no zone" in line for line in proposal.asked)
    assert spec["n"].kind == "numeric" and spec.label == "click"


def test_what_cannot_be_told_is_asked(tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        guess_tables([str(tmp_path / "nowhere")])
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match=r"a.csv: which table this is cannot be told.*\(x, y\).*impressions="):
        guess_tables([str(tmp_path)])
    (tmp_path / "a.csv").write_text("user_id,item_id,time,x\n1,2,1700000000000,1\n")
    with pytest.raises(InputError, match=r"which column of impressions is the label\? Say `--label NAME`"):
        propose([str(tmp_path)], "x", "f.yaml")
    with pytest.raises(InputError, match="no column `clicked`"):
        propose([str(tmp_path)], "x", "f.yaml", label="clicked")
    (tmp_path / "b.csv").write_text("user_id,item_id,time,x\n1,2,1700000000000,1\n")
    with pytest.raises(InputError, match="both look like `impressions`"):
        guess_tables([str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("userId", "user_id"),
        ("user_id:token", "user_id"),
        ("Item ID", "item_id"),
        ("2nd", "column_2nd"),
        ("é", "column_"),
    ],
)
def test_plain_names(name, plain):
    assert plain_name(name) == plain


def test_auc_of_a_column_alone():
    rng = np.random.default_rng(1)
    label = (rng.random(20_000) < 0.3).astype(float)
    noise, answer = pa.array(rng.random(20_000)), pa.array(label + 0.1 * rng.random(20_000))
    assert abs(auc_alone(noise, label) - 0.5) < 0.02 and auc_alone(answer, label) == 1
    assert auc_alone(pa.array(-answer.to_numpy()), label) == 1, "whichever way round"
    unique = pa.array([f"t{i}" for i in range(20_000)])
    assert abs(auc_alone(unique, label) - 0.5) < 0.02, "values that occur once tell nothing"
    group = rng.integers(0, 2, 20_000)
    planted = (rng.random(20_000) < np.where(group, 0.8, 0.2)).astype(float)
    assert abs(auc_alone(pa.array(np.where(group, "a", "b")), planted) - 0.8) < 0.02
    assert auc_alone(noise, np.full(20_000, np.nan)) == 0.5


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.0", None], "integer"),
        (["1.5", "2"], "number"),
        (["2026-11-25T10:00:00Z"], "time"),
        (["a|b", "c"], "texts"),
        (["a", "1"], "text"),
        ([[1, 2], None], "integers"),
        ([["a"], []], "texts"),
    ],
)
def test_kinds_of_columns(values, kind):
    assert statistics_of(pa.array(values))[0].kind == kind
