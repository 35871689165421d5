"""The end of a run: the example request over REST from the embedded server, and the line that asks the same again."""

import dataclasses
import json
import shlex

import pytest

from features.errors import RunError
from pipeline.run.examples.served_example import PREDICT_FILE, serve_example
from serving.ranker import Ranker
from serving.server.config import ServeConfig
from serving.server.server import ModelServer
from serving.validation.wires import rest_predict
from tests.builders.small_ranker import json_request, random_requests


@pytest.fixture(scope="module")
def example(base_dir):
    ranker, request = Ranker(base_dir), json_request(random_requests(1, seed=4).to_pylist()[0])
    return ranker, request, ranker.rank(request)


def test_the_score_is_that_of_the_ranker_and_the_curl_line_asks_for_it(example, base_dir, tmp_path):
    ranker, request, ranked = example
    served = serve_example(tmp_path, ranker, request, ranked)
    assert served.scores == pytest.approx(
        [each.score for each in sorted(ranked, key=lambda each: each.index)], abs=1e-6
    )
    assert served.score == pytest.approx(ranked[0].score, abs=1e-6) and served.item == ranked[0].item_id
    *_, body, url = shlex.split(served.curl)
    assert url == "http://127.0.0.1:8501/v1/models/shop:predict" and body == f"@{tmp_path / PREDICT_FILE}"
    asked = (tmp_path / PREDICT_FILE).read_text()
    assert json.loads(asked)["signature_name"] == "serving_default"
    with ModelServer(ServeConfig(models={"shop": str(base_dir)}, port=0, rest_port=0, drain_s=0)) as server:
        answered = rest_predict(server.rest_port, url.split(":8501")[1], asked)
    assert answered["score"][0] == pytest.approx(served.scores, abs=1e-7)


def test_another_score_is_an_error(example, tmp_path):
    ranker, request, ranked = example
    wrong = [dataclasses.replace(each, score=each.score + 1e-4) for each in ranked]
    with pytest.raises(RunError, match="otherwise than .* by up to 0.0001"):
        serve_example(tmp_path, ranker, request, wrong)
