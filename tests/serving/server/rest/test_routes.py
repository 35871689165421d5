"""Which paths mean what (http_rest_api_util.cc, `ParseModelInfo`)."""

import pytest

from serving.server.rest.routes import Route, is_api, read_route
from serving.server.status import ServingError


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/v1/models/m:predict", Route("m", None, None, "predict")),
        ("POST", "/V1/MODELS/m:classify", Route("m", None, None, "classify")),
        ("POST", "/v1/models/m/versions/7:regress", Route("m", 7, None, "regress")),
        ("POST", "/v1/models/m/labels/stable:predict", Route("m", None, "stable", "predict")),
        ("POST", "/v1/models/a%2Fb%3a/labels/%73:predict", Route("a/b:", None, "s", "predict")),
        ("POST", "/v1/models/%2e%2e:predict", Route("..", None, None, "predict")),
        ("POST", "/v1/models/a%00b%zz+:predict", Route("a\0b%zz+", None, None, "predict")),
        ("POST", "/v1/models/%ff:predict", Route("\ufffd", None, None, "predict")),
        ("GET", "/v1/models/m", Route("m", None, None, "status")),
        ("GET", "/v1/models/m/metadata", Route("m", None, None, "metadata")),
        ("GET", "/v1/models/m/METADATA", Route("m", None, None, "status")),
        ("GET", "/v1/models/m/versions/0012", Route("m", 12, None, "status")),
        ("GET", "/v1/models/m/versions/9223372036854775807/metadata", Route("m", 2**63 - 1, None, "metadata")),
        ("GET", "/v1/models/m/labels/l/metadata", Route("m", None, "l", "metadata")),
        ("GET", "/v1/models", Route("", None, None, "status")),
        ("GET", "/v1/models/versions/3", Route("", 3, None, "status")),
        ("GET", "/v1/models/metadata", Route("metadata", None, None, "status")),
        ("GET", "/v1/models/m?q", Route("m?q", None, None, "status")),
    ],
)
def test_routes(method, path, route):
    assert is_api(path)
    assert read_route(method, path) == route


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/m/"),
        ("GET", "/v1/models/m:predict"),
        ("GET", "/v1/models/m/versions/HELLO"),
        ("GET", "/v1/models/m/versions/1/labels/l"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m:Predict"),
        ("POST", "/v1/models/m:predict/"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/a/b:predict"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/v1/models/m/versions/-1:predict"),
        ("POST", "/v1/models/m/versions/١:predict"),
        ("PUT", "/v1/models/m:predict"),
        ("HEAD", "/v1/models/m"),
    ],
)
def test_malformed_requests(method, path):
    with pytest.raises(ServingError) as caught:
        read_route(method, path)
    assert str(caught.value) == f"INVALID_ARGUMENT: Malformed request: {method} {path}"


@pytest.mark.parametrize("digits", ["9223372036854775808", "9" * 5000])
def test_versions_beyond_int64(digits):
    with pytest.raises(ServingError) as caught:
        read_route("GET", f"/v1/models/m/versions/{digits}")
    assert str(caught.value) == f"INVALID_ARGUMENT: Failed to convert version: {digits} to numeric."


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/models/m", "/v1beta/models", "/models/m"])
def test_other_paths_are_not_of_the_interface(path):
    assert not is_api(path)


def test_a_model_specification():
    assert str(Route("m", None, None, "predict").model_spec()).split() == ["name:", '"m"']
    spec = Route("m", 0, None, "predict").model_spec("s")
    assert (spec.name, spec.version.value, spec.HasField("version"), spec.signature_name) == ("m", 0, True, "s")
    assert Route("m", None, "l", "predict").model_spec().version_label == "l"
