"""Toy models on disk, and a server over them, for the tests of the server."""

import pytest

from tests.serving.server.serving_case import serving
from tests.serving.server.toy_models import save_toy_models


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    """Base paths of the toy models by name. Tests copy what they change."""
    return save_toy_models(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def toy_server(toys):
    """A server of every toy model with stubs; of `half_plus_two` version 2 alone, the latest."""
    with serving(models={name: str(path) for name, path in toys.items()}) as running:
        yield running
