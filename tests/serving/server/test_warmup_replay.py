"""Warm-up requests are replayed before a version is served; what cannot be replayed fails the load."""

import shutil

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.server.server_metrics import ServerMetrics
from serving.server.status import ServingError
from serving.server.versions.loaded_model import LoadedModel, SessionThreads
from serving.server.versions.model_manager import AVAILABLE, END
from serving.server.versions.warmup_replay import replay_warmup
from tests.serving.server.serving_case import copy_version, eventually, floats, predict_request, serving

INPUT = {"example_list": {"examples": [tf.train.Example()]}}
SPEC = {"name": "of another model", "version": {"value": 99}}


def log(**kind):
    return prediction_log_pb2.PredictionLog(**kind).SerializeToString()


PREDICT = log(predict_log={"request": predict_request("of another model", version=99, x=floats(1))})
CLASSIFY = log(classify_log={"request": {"model_spec": {**SPEC, "signature_name": "classify_x_to_y"}, "input": INPUT}})
REGRESS = log(regress_log={"request": {"model_spec": {**SPEC, "signature_name": "regress_x_to_y"}, "input": INPUT}})
MULTI = log(
    multi_inference_log={
        "request": {
            "tasks": [
                {
                    "model_spec": {**SPEC, "signature_name": "regress_x_to_y"},
                    "method_name": "tensorflow/serving/regress",
                }
            ],
            "input": INPUT,
        }
    }
)


def warmed(toys, folder, records) -> str:
    """A version with a warm-up file."""
    shutil.copytree(toys["half_plus_two"] / "2", folder)
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    if isinstance(records, bytes):
        path.write_bytes(records)
        return str(path)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


@pytest.fixture
def replay(toys, tmp_path):
    """Replays a warm-up file on a fresh version; returns the number of records and the figures."""
    models = []

    def run(records, iterations=1):
        folder = tmp_path / str(len(models) + 1)
        warmed(toys, folder, records)
        model = LoadedModel("half", 2, str(folder), SessionThreads())
        models.append(model)
        metrics = ServerMetrics(lambda _: True)
        return replay_warmup(model, metrics, iterations), metrics.render().decode()

    yield run
    for model in models:
        model.close()


def test_every_kind_of_request_is_replayed(replay):
    count, page = replay([PREDICT, CLASSIFY, REGRESS, MULTI, log()], iterations=3)
    assert count == 5
    assert ":tensorflow:serving:model_warmup_records_read{model_path=" in page and "} 5" in page
    assert "request_count" not in page and "runtime_latency" not in page


def test_a_thousand_records_are_taken_and_one_more_is_not(replay):
    assert replay([PREDICT] * 1000)[0] == 1000
    with pytest.raises(ServingError, match=r"Number of warmup records exceeds the maximum \(1000\) at .*requests"):
        replay([PREDICT] * 1001)


FAILING = {
    "unparseable": ([PREDICT, b"\xff\xff\xff"], "INVALID_ARGUMENT", "Failed to parse warmup record: "),
    "unknown signature": (
        [log(predict_log={"request": predict_request("m", "nope")})],
        "FAILED_PRECONDITION",
        'Serving signature key "nope" not found.',
    ),
    "of another type": (
        [log(predict_log={"request": predict_request("m", x=[1])})],
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but int32 is provided",
    ),
    "session run": ([log(session_run_log={})], "UNIMPLEMENTED", "Unsupported log_type for warmup: 5"),
    "streamed": ([log(predict_streamed_log={})], "UNIMPLEMENTED", "Unsupported log_type for warmup: 7"),
    "no records": (b"certainly no file of records", "DATA_LOSS", "corrupted record at 0"),
}


@pytest.mark.parametrize("case", FAILING)
def test_what_cannot_be_replayed_fails(replay, case):
    records, code, text = FAILING[case]
    if case == "streamed" and "predict_streamed_log" not in prediction_log_pb2.PredictionLog.DESCRIPTOR.fields_by_name:
        pytest.skip("this version of the API has no such log")
    with pytest.raises(ServingError) as caught:
        replay(records)
    assert caught.value.code.name == code and caught.value.message.startswith(text)
    if case == "no records":
        assert caught.value.message.endswith(". Please verify your warmup data is in TFRecord format.")


def test_a_version_whose_warm_up_fails_is_not_served(toys, tmp_path):
    base = tmp_path / "half"
    base.mkdir()
    copy_version(toys["half_plus_two"] / "1", base / "1")
    warmed(toys, tmp_path / "bad", FAILING["of another type"][0])
    with serving(models={"half": str(base)}) as running:
        (tmp_path / "bad").rename(base / "2")
        eventually(lambda: running.states("half") == {2: END, 1: AVAILABLE})
        assert "Expects arg[0]" in running.server.core.manager.states("half")[2].error.message
    with serving(models={"half": str(base)}, warmup=False) as running:
        assert running.states("half") == {2: AVAILABLE}
