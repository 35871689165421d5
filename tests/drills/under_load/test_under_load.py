"""The drills under load in short, without their clocks; and that they find what they look for."""

import os
import time

from tests.drills.under_load import overload, switch
from tests.drills.under_load.calls import Call
from tests.drills.under_load.models import save_spin
from tests.serving.server.serving_case import floats, predict_request, serving


def test_an_overloaded_server_answers_what_it_takes_and_refuses_the_rest(tmp_path):
    save_spin(tmp_path / "spin" / "1")
    with serving(models={"spin": str(tmp_path / "spin")}, workers=1, queue=2) as running:
        address = f"127.0.0.1:{running.server.grpc_port}"
        found = overload.overload_server(address, os.getpid(), seconds=1.0, times=10.0, deadline_s=300.0)
    assert overload.faults(found) == []


def test_releases_switch_without_a_failed_or_a_mixed_answer(tmp_path):
    ids = switch.make_root(tmp_path / "root")
    with serving(root=str(tmp_path / "root")) as running:
        address = f"127.0.0.1:{running.server.grpc_port}"
        found = switch.switch_releases(str(tmp_path / "root"), ids, address, moves=2, steady_s=0.2)
    assert switch.faults(found) == []


def test_faults_are_found():
    assert overload.faults({"codes": {"OK": 1, "DEADLINE_EXCEEDED": 2}}) == [
        *("calls ended by {'DEADLINE_EXCEEDED': 2}", "no call ended by RESOURCE_EXHAUSTED")
    ]
    assert overload.late({"refused_p99_ms": 11.0, "recovery_s": 1.5, "mb": [100.0, 100.0, 120.0]}) == [
        *("refusals took 11.0 ms (p99)", "it took 1.5 s to recover", "its memory grew 1.20 times")
    ]
    bad = {"codes": {"OK": 1, "NOT_FOUND": 1}, "mixed": 1, "versions": {1: 1}}
    assert len(switch.faults(bad)) == 3
    answer = predict_answer(version=2, y=3.0)
    now = time.monotonic()
    assert not switch.mixed(Call(now, now, "OK", predict_request("first", x=floats(2.0)), answer))
    assert switch.mixed(Call(now, now, "OK", predict_request("second", version=1, x=floats(2.0)), answer))
    wrong = predict_answer(version=1, y=3.0)
    assert switch.mixed(Call(now, now, "OK", predict_request("first", x=floats(2.0)), wrong))


def predict_answer(version: int, y: float):
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    answer = PredictResponse()
    answer.model_spec.version.value = version
    answer.outputs["y"].CopyFrom(tf.make_tensor_proto([y], tf.float32))
    return answer
