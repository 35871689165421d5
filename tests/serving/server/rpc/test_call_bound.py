"""The one bound on calls: gRPC and REST share it, what does not fit is refused at once, none outlives the core."""

import contextlib
import http.client
import json
import threading

import grpc
import numpy as np
import pytest

from serving.server.call_pool import FULL, CallPool
from serving.server.config import ServeConfig
from serving.server.core import ServerCore
from serving.server.status import ServingError
from serving.server.versions.model_configs import config_of
from tests.serving.server.serving_case import eventually, floats, predict_request, refused, serving

FOR_EVER = 10**12
SPIN = predict_request("kinds", "spin", n=np.int64(FOR_EVER))
HALF = predict_request("half_plus_two", x=floats(2.0))


@pytest.fixture
def models(toys):
    return {name: str(path) for name, path in toys.items()}


def post(running, body, model="half_plus_two", timeout=60):
    """The status and the document that REST answers a call by."""
    link = http.client.HTTPConnection("127.0.0.1", running.server.rest_port, timeout=timeout)
    with contextlib.closing(link):
        link.request("POST", f"/v1/models/{model}:predict", json.dumps(body))
        answer = link.getresponse()
        return answer.status, json.loads(answer.read())


def test_grpc_and_rest_share_the_bound(models):
    with serving(models=models, workers=1, queue=1, rest_port=0) as running:
        held = running.prediction.Predict.future(SPIN, timeout=5)
        eventually(lambda: running.server.core.calls.count == 1)
        found = []
        waiting = threading.Thread(target=lambda: found.append(post(running, {"inputs": [2.0]})))
        waiting.start()
        eventually(lambda: running.server.core.calls.count == 2)
        assert refused(running.prediction.Predict, HALF, timeout=60) == ("RESOURCE_EXHAUSTED", FULL)
        assert post(running, {"inputs": [2.0]}) == (429, {"error": FULL})
        assert held.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        waiting.join()
        assert found == [(200, {"outputs": [4.0]})]
        page = running.server.core.metrics.render().decode()
        for entrypoint in ("GRPC", "REST"):
            assert f':tensorflow:serving:request_refused_count{{entrypoint="{entrypoint}"}} 1' in page


def test_rest_calls_that_hold_the_workers_make_grpc_wait_and_all_are_answered(models):
    with serving(models=models, workers=1, queue=64, rest_port=0) as running:
        found = []
        body = {"signature_name": "spin", "inputs": 30_000}
        threads = [threading.Thread(target=lambda: found.append(post(running, body, "kinds"))) for _ in range(4)]
        for each in threads:
            each.start()
        calls = [running.prediction.Predict.future(HALF, timeout=60) for _ in range(4)]
        assert [call.code() for call in calls] == [grpc.StatusCode.OK] * 4
        for each in threads:
            each.join()
        assert [status for status, _ in found] == [200] * 4
        eventually(lambda: running.server.core.calls.count == 0)


def test_a_place_is_given_back_by_a_call_that_never_found_a_worker():
    pool, ends = CallPool(workers=1, queue=1), threading.Event()
    holder = threading.Thread(target=lambda: pool.run(ends.wait, timeout_s=60))
    holder.start()
    eventually(lambda: pool.count == 1)
    with pytest.raises(ServingError, match="No worker was free within 0.05 s") as caught:
        pool.run(int, timeout_s=0.05)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED and pool.count == 1
    ends.set()
    holder.join()
    assert pool.run(int, timeout_s=60) == 0 and pool.wait(60)


def test_a_call_does_not_outlive_the_core(models):
    core = ServerCore(ServeConfig(models=models, poll_s=0))
    core.apply(config_of(models))
    ended = []

    def call():
        try:
            core.calls.run(core.predict, SPIN, timeout_s=60)
        except ServingError as error:
            ended.append(error.code)

    running = threading.Thread(target=call)
    running.start()
    eventually(lambda: core.manager._managed["kinds"][1].calls == 1)
    core.close()
    running.join(60)
    assert ended == [grpc.StatusCode.CANCELLED]
    eventually(lambda: core.manager.states("kinds")[1].state == 50)
    with pytest.raises(ServingError, match="Servable not found"):
        core.predict(HALF)
