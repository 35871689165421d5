import json
import shutil

import numpy as np
import pytest

from serving.ranker import Ranker
from serving.requests.json_request import RequestError
from tests.builders.small_ranker import json_request, offline_logits, random_requests


@pytest.fixture(scope="module")
def ranker(base_dir):
    return Ranker(base_dir)


def test_a_json_request_is_ranked_by_the_trained_model(ranker, model, encoding):
    for row in range(20):
        table = random_requests(20, seed=13).slice(row, 1)
        request = json.loads(json.dumps(json_request(table.to_pylist()[0])))
        logits = offline_logits(model, encoding, table)
        ranked = ranker.rank(request)
        order = np.argsort(-logits)
        assert [item.index for item in ranked] == order.tolist()
        assert [item.item_id for item in ranked] == [request["candidates"][index]["item_id"] for index in order]
        np.testing.assert_allclose([item.logit for item in ranked], logits[order], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose([item.score for item in ranked], 1 / (1 + np.exp(-logits[order])), atol=1e-6)
        assert [item.index for item in ranker.rank(request, k=2)] == order[:2].tolist()


def test_requests_with_little_in_them(ranker):
    assert ranker.rank({"candidates": []}) == []
    (item,) = ranker.rank({"candidates": [{}]})
    assert item.index == 0 and item.item_id is None and 0 < item.score < 1
    same = ranker.rank({"candidates": [{"item_id": "i1"}] * 4})
    assert [item.index for item in same] == [0, 1, 2, 3]  # equal candidates keep their order
    with pytest.raises(RequestError, match="Did you mean `price`?"):
        ranker.rank({"candidates": [{"prise": 1.0}]})
    with pytest.raises(ValueError, match="`k` must be positive. Received: `k`=0"):
        ranker.rank({"candidates": [{}]}, k=0)


def test_the_latest_version_is_loaded(ranker, base_dir, tmp_path):
    assert ranker.directory == str(base_dir / "3")
    for version in ("9", "10"):
        shutil.copytree(base_dir / "3", tmp_path / version)
    (tmp_path / "11").mkdir()  # not an export
    shutil.copytree(base_dir / "3", tmp_path / ".12.half")  # not a version
    assert Ranker(tmp_path).directory == str(tmp_path / "10")
    assert Ranker(tmp_path / "9").directory == str(tmp_path / "9")


def test_no_model_is_said_clearly(tmp_path):
    with pytest.raises(FileNotFoundError, match="`model_dir` must be a SavedModel.*nothing_here"):
        Ranker(tmp_path / "nothing_here")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(FileNotFoundError, match="not a ranker exported by Clickmill"):
        Ranker(tmp_path)
