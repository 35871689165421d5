"""Servers that conformance cases share, started once."""

import contextlib
from pathlib import Path

import pytest

from tests.serving.conformance.runner import Target
from tests.serving.conformance.servers import start
from tests.serving.server.toy_models import save_toy_models


@pytest.fixture(scope="session")
def conformance_models(tmp_path_factory) -> Path:
    """Folder of the toy models; not to be written to."""
    folder = tmp_path_factory.mktemp("conformance") / "models"
    save_toy_models(folder)
    return folder


@pytest.fixture(scope="module")
def shared_target(conformance_models, tmp_path_factory):
    """Function of a kind and a server's name to the target, which is started at its first use."""
    started = {}
    with contextlib.ExitStack() as stack:

        def target(kind: str, server: str) -> Target:
            if (kind, server) not in started:
                work = tmp_path_factory.mktemp(f"{kind}-{server}")
                started[kind, server] = Target(
                    kind, *stack.enter_context(start(kind, server, conformance_models, work))
                )
            return started[kind, server]

        yield target
