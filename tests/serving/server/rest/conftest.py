"""A server with the toy models behind the REST interface that tests start for themselves."""

import contextlib

import pytest

from serving.server.rest.http_server import make_http_server
from serving.server.rest.options import RestOptions
from tests.serving.server.toy_models import save_toy_models


@pytest.fixture(scope="session")
def rest_core(tmp_path_factory):
    """A `ServerCore` that serves the toy models."""
    from serving.server.config import ServeConfig
    from serving.server.server import ModelServer

    models = save_toy_models(tmp_path_factory.mktemp("rest_models"))
    config = ServeConfig(models={name: str(path) for name, path in models.items()}, port=0, rest_port=None)
    with ModelServer(config) as server:
        yield server.core


@pytest.fixture
def serve_rest(rest_core):
    """Function of options to a running `RestServer`."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            server = make_http_server(rest_core, "127.0.0.1", 0, RestOptions(**options))
            server.start()
            stack.callback(server.stop)
            return server

        yield start
