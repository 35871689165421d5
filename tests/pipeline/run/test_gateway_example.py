"""The end of a run: the gateway answers the example request over the embedded server, and the line that asks again."""

import json
import shlex

import pyarrow.parquet as pq
import pytest

from features.errors import RunError
from pipeline.run.examples.gateway_example import GATEWAY_FILE, ask_gateway
from serving.release.registry import Releases
from tests.serving.gateway import gateway_case

REQUEST = {
    "request_id": "r1",
    "timestamp": 1_768_413_289_029,
    "user": {"user_id": "u0000026", "age_band": "18-24", "city": "amsterdam"},
    "context": {"device": "android", "hour": 7},
    "history": [{"item_id": 3, "timestamp": 1_768_413_000_000}],
}


@pytest.fixture(scope="module")
def released(cascade_work, tmp_path_factory):
    """The releases of a serving root: a cascade, and its ranker alone."""
    root = tmp_path_factory.mktemp("gateway_example") / "serving"
    models = gateway_case.push_models(cascade_work, root)
    cascade = gateway_case.publish(cascade_work, root, models)
    alone = gateway_case.publish(cascade_work, root, models[-1:], cascade=None, cascade_models={})
    return Releases(str(root)), cascade, alone


def test_a_cascade_recommends_and_the_curl_line_asks_for_it(released, tmp_path):
    releases, cascade, _ = released
    found = ask_gateway(tmp_path, releases, cascade, REQUEST)
    assert found.path == "/v1/recommend" and found.answer.release == cascade.id and len(found.answer.items) == 10
    assert found.page == "http://127.0.0.1:8080/"
    *_, body, url = shlex.split(found.curl)
    assert url == "http://127.0.0.1:8080/v1/recommend" and body == f"@{tmp_path / GATEWAY_FILE}"
    asked = json.loads((tmp_path / GATEWAY_FILE).read_text())
    assert asked["user"] == "u0000026" and asked["context"]["hour"] == 7 and asked["history"] == REQUEST["history"]
    assert "user_id" not in asked["context"] and "release" not in asked


def test_a_ranker_alone_ranks(released, cascade_work, tmp_path):
    releases, _, alone = released
    items = pq.read_table(cascade_work / "raw" / "examples" / "catalogue" / "items.parquet")["item_id"][:4].to_pylist()
    request = REQUEST | {"candidates": [{"item_id": item} for item in items]}
    found = ask_gateway(tmp_path, releases, alone, request)
    assert found.path == "/v1/rank" and {item.item_id for item in found.answer.items} == set(items)
    assert found.answer.release == alone.id and found.curl.endswith("/v1/rank")


def test_an_answer_that_is_not_whole_is_an_error(released, tmp_path, monkeypatch):
    releases, cascade, _ = released
    with pytest.raises(RunError, match="answers the example request with 400: .*`huor`"):
        ask_gateway(tmp_path, releases, cascade, REQUEST | {"context": {"huor": 7}})


def test_a_root_elsewhere_is_not_asked(released, tmp_path):
    assert ask_gateway(tmp_path, Releases("memory://serving"), released[1], REQUEST) is None
