"""Every conformance case against the embedded server, and against TensorFlow Serving where its program is."""

import re

import pytest

from tests.serving.conformance.cases import read_cases
from tests.serving.conformance.runner import Target, run_case
from tests.serving.conformance.servers import SERVERS, real_binary, start

CASES = read_cases()
KINDS = ["embedded", *(["real"] if real_binary() else [])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, kind, request, tmp_path):
    if case.own_server:
        models = request.getfixturevalue("conformance_models")
        with start(kind, case.server, models, tmp_path) as addresses:
            assert run_case(case, Target(kind, *addresses)) == []
    else:
        assert run_case(case, request.getfixturevalue("shared_target")(kind, case.server)) == []


def test_there_are_cases_for_every_server_and_each_names_its_source():
    assert len(CASES) >= 250
    assert {case.server for case in CASES} == set(SERVERS)
    for case in CASES:
        assert re.fullmatch(r"((tensorflow|rapidjson) )?[\w/]+\.(cc|h)(:\d+)? \w+", case.source), case


def test_a_difference_is_found(shared_target):
    """Expectations turned round: the runner must say what is otherwise."""
    target = shared_target("embedded", "plain")
    by_name = {case.name: case for case in CASES}
    for name, change in {
        "rest-predict": {"code": 201},
        "rest-unknown-model": {"error": "Servable not found"},
        "rest-metrics": {"pattern": "no such metric"},
        "answer-columns-of-several-outputs": {"json": {"outputs": {}}},
        "rest-options-with-origin": {"headers_out": {"Access-Control-Allow-Origin": "*"}},
        "predict": {"outputs": {"y": "float[2] 3.5 4.5"}},
        "predict-version": {"answer": {"model_spec": {"name": "half_plus_two"}}},
        "predict-unknown-model": {"code": "OK"},
        "metadata": {"pattern": "no such signature"},
    }.items():
        case = by_name[name]
        assert run_case(case._replace(steps=({**case.steps[0], **change},)), target), name
