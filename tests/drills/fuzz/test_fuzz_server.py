"""The fuzz drill in short, and that it finds what it looks for."""

import grpc
import pytest

from tests.drills.fuzz.fuzz_inputs import RestInput
from tests.drills.fuzz.fuzz_server import fuzzed_server, make_models, run_chunk


@pytest.fixture(scope="module")
def fuzz_target(tmp_path_factory):
    with fuzzed_server(make_models(tmp_path_factory.mktemp("fuzzed"))) as target:
        yield target


def test_any_bytes_find_nothing(fuzz_target):
    found = run_chunk(fuzz_target, number=1_000_000, inputs=1000)
    assert found["fault"] == ""
    assert found["inputs"] > 500
    assert {"REST 200", "REST 400", "gRPC OK", "gRPC INVALID_ARGUMENT"} <= set(found["ended"])


def test_a_server_that_ends_is_found(tmp_path):
    with fuzzed_server(make_models(tmp_path)) as target:
        target._process.kill()
        target._process.wait()
        with pytest.raises((AssertionError, ConnectionError, grpc.RpcError)):
            target.send(RestInput("GET", "/v1/models/kinds", (), b""))
