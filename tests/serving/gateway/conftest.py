"""A release on disk, the embedded server over it, and gateways, for the tests of the gateway."""

import contextlib

import pytest

from serving.gateway.config import GatewayConfig
from serving.gateway.gateway import Gateway
from serving.server.config import ServeConfig
from serving.server.server import ModelServer
from tests.serving.gateway import gateway_case


@pytest.fixture(scope="session")
def gateway_root(cascade_work, tmp_path_factory):
    """A serving root with one release of the small cascade. Not to be written to."""
    root = tmp_path_factory.mktemp("gateway") / "serving"
    gateway_case.publish(cascade_work, root, gateway_case.push_models(cascade_work, root))
    return root


@pytest.fixture(scope="session")
def model_server(gateway_root):
    """The address of a server of that release."""
    config = ServeConfig(root=str(gateway_root), labels=("latest",), port=0, rest_port=None, warmup=False)
    with ModelServer(config) as server:
        yield f"127.0.0.1:{server.grpc_port}"


@pytest.fixture(scope="session")
def on_loop():
    """Runs coroutines, all on one loop."""
    loop = gateway_case.Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def open_gateway(gateway_root, on_loop):
    """Opens a gateway in `with`; it does not hurry unless it is told to."""

    @contextlib.contextmanager
    def opened(server, **values):
        patient = {"deadline_ms": 60_000, "poll_s": 0.05, "root": str(gateway_root)}
        patient["deadlines"] = {f"{stage}_ms": 15_000 for stage in ("lookup", "retrieve", "coarse", "fine", "explain")}
        gateway = on_loop(Gateway.open(GatewayConfig.model_validate({**patient, "server": server, **values})))
        try:
            yield gateway
        finally:
            on_loop(gateway.close())

    return opened


@pytest.fixture(scope="session")
def gateway(open_gateway, model_server):
    """A gateway of the release, ready."""
    with open_gateway(model_server) as opened:
        assert opened.ready() == []
        yield opened


@pytest.fixture(scope="session")
def broken(open_gateway, model_server):
    """A gateway behind a server whose models can be broken, and that server."""
    with gateway_case.faulty(model_server) as (server, address), open_gateway(address) as opened:
        yield opened, server
