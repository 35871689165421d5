"""A prediction's scores are those of a server and of `Ranker.rank`: histories from a store, and from the requests."""

import base64
import json
import urllib.request
from types import SimpleNamespace

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from features.errors import OccupiedError
from features.examples.raw_sample import json_request
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from serving.offline.prediction import PredictionModel, predict_requests
from serving.ranker import Ranker
from serving.requests.json_request import row_from_request
from serving.requests.tensors import slate_tensors
from serving.saved.ranker import SavedRanker
from serving.server.config import ServeConfig
from serving.server.server import ModelServer
from serving.user_stores.bse.store import BseStore
from serving.user_stores.bse.table_job import build_behavior_tables
from tests.builders import small_log as small
from tests.builders.multi_valued import SPEC, Exported

pytestmark = pytest.mark.slow  # an export, a server

REQUESTS = 80
EXACT = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """An export with bucket tables (`shop/1`), its store, and requests with histories in a file."""
    folder = tmp_path_factory.mktemp("work")
    raw, encoded = folder / "raw", folder / "encoded"
    raw.mkdir()
    small.write_raw_log(raw)
    encoding = small.encode_log(raw, encoded, SPEC)
    whole = InputConfig(batch_size=10**6, buffer_shards=small.NUM_SHARDS)
    batch = next(iter(make_dataset(encoded, "eval", encoding, whole, histories=True)))
    rows = small.raw_rows(raw, SPEC)
    log = SimpleNamespace(raw=raw, encoded=encoded, encoding=encoding, rows=rows, batch=batch)
    Exported(log, "sdim", folder / "shop" / "1")
    (folder / "log").mkdir()  # a user of the small log is another one in each shard
    path = sorted((raw / "behaviors").glob("*.parquet"))[0]
    pq.write_table(pq.read_table(path), folder / "log" / path.name)
    build_behavior_tables(folder / "shop", folder / "log", folder / "store")
    requests = [json_request(row, SPEC) for row in rows.slice(0, REQUESTS).to_pylist()]
    requests[3]["user"]["user_id"] = None
    text = "\n".join(json.dumps(request) for request in requests)
    (folder / "requests.jsonl").write_text(text, encoding="utf-8")
    return folder, requests


@pytest.fixture(scope="module", params=["store", "requests"])
def scored(request, work):
    """Where long histories come from, and by line the scores of a prediction."""
    folder, _ = work
    store = str(folder / "store") if request.param == "store" else None
    out = folder / f"out_{request.param}"
    predict_requests([str(folder / "requests.jsonl")], str(out), PredictionModel(str(folder / "shop"), store))
    (path,) = out.glob("scores-*.parquet")
    found = {}
    for row in pq.read_table(path).to_pylist():
        found.setdefault(row["line"], []).append(row)
    return store, found


def tensors_of(saved, request, store):
    """What a client sends of one request."""
    row = row_from_request(saved.spec, request)
    if store is None:
        table = saved.long_table(row)
    else:
        user = request["user"]["user_id"]
        table = None if user is None else store.get(user)
    sums = None if table is None else table.sums[np.newaxis]
    return slate_tensors(saved.spec, row, saved.history, sums, names=saved.inputs("serving_default"))


def by_grpc(stub, tensors, inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "shop"
    for name, spec in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(tensors[name], spec.dtype))
    answer = stub.Predict(request, timeout=60)
    return {name: tf.make_ndarray(value) for name, value in answer.outputs.items()}


def by_rest(port, tensors, inputs):
    def plain(value):
        if isinstance(value, list):
            return [plain(each) for each in value]
        return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value

    body = json.dumps({"inputs": {name: plain(np.asarray(tensors[name]).tolist()) for name in inputs}}).encode()
    url = f"http://127.0.0.1:{port}/v1/models/shop:predict"
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
        return json.loads(answer.read())["outputs"]


def test_a_server_gives_the_same_scores(work, scored):
    folder, requests = work
    store_dir, found = scored
    saved = SavedRanker(folder / "shop")
    inputs = saved.inputs("serving_default")
    store = None if store_dir is None else BseStore(store_dir)
    config = ServeConfig(models={"shop": str(folder / "shop")}, port=0, rest_port=0)
    with ModelServer(config) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        used = set()
        for line, request in enumerate(requests, 1):
            tensors, rows = tensors_of(saved, request, store), found[line]
            answers = [by_grpc(stub, tensors, inputs), by_rest(server.rest_port, tensors, inputs)]
            for answer in answers:
                assert len(rows) == len(answer["score"][0]) == len(request["candidates"])
                for name in ("score", "logit"):
                    np.testing.assert_allclose([row[name] for row in rows], np.asarray(answer[name])[0], **EXACT)
                assert {row["long_history_used"] for row in rows} == {bool(np.asarray(answer["long_history_used"])[0])}
            used.add(bool(answers[0]["long_history_used"][0]))
        assert used == {True, False}
    if store is not None:
        store.close()


def test_rank_gives_the_same_scores(work, scored):
    folder, requests = work
    store, found = scored
    ranker = Ranker(folder / "shop") if store is None else Ranker.with_store(folder / "shop", store)
    within = 1e-5 if store is None else 1e-6  # a table adds behaviours up in another order than the joint graph
    for line, request in enumerate(requests, 1):
        ranked = {item.index: item for item in ranker.rank(request)}
        for row in found[line]:
            assert row["item_id"] == ranked[row["index"]].item_id == request["candidates"][row["index"]]["item_id"]
            assert abs(row["score"] - ranked[row["index"]].score) < within
            assert abs(row["logit"] - ranked[row["index"]].logit) < within


def test_a_store_that_was_built_again_is_another_job(work, tmp_path):
    folder, _ = work
    model = PredictionModel(str(folder / "shop"), str(folder / "store"))
    requests = [str(folder / "requests.jsonl")]
    predict_requests(requests, str(tmp_path / "out"), model)
    assert predict_requests(requests, str(tmp_path / "out"), model)["scored_now"] == 0
    build_behavior_tables(folder / "shop", folder / "log", folder / "store", as_of=small.NOW - 10**9)
    with pytest.raises(OccupiedError, match="`tables_build`"):
        predict_requests(requests, str(tmp_path / "out"), model)
