"""A serving root of two releases whose lists differ, and the gateway's application on a port of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from serving.gateway.config import GatewayConfig
from serving.gateway.gateway import Gateway
from serving.gateway.web.application import make_app
from serving.release.labels import promote
from serving.release.manifest import Release
from serving.release.publish_release import publish_release
from serving.server.config import ServeConfig
from serving.server.server import ModelServer
from tests.serving.gateway import gateway_case

#: Nothing is late, however slow the machine.
PATIENT = {
    "deadline_ms": 60_000,
    "deadlines": {f"{stage}_ms": 15_000 for stage in ("lookup", "retrieve", "coarse", "fine", "explain")},
}


def publish_two(work: Path, root: Path) -> tuple[Release, Release]:
    """Publishes a cascade without a coarse ranker as `stable`, and then the whole one, which is the newest."""
    models = gateway_case.push_models(work, root)
    stages = {model.stage: model.name for model in models}
    no_coarse = {stage: name for stage, name in stages.items() if stage != "coarse"}
    without = gateway_case.publish(work, root, models, cascade_models=no_coarse)
    promote(root, without.id, "stable")
    facts = {name: getattr(without, name) for name in ("tables", "catalogue", "cascade")}
    popular = root / without.popular_items
    return without, publish_release(root, models, **facts, popular_items=popular, cascade_models=stages)


@contextlib.contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of a server of both releases' models."""
    config = ServeConfig(root=str(root), labels=("latest", "stable"), port=0, rest_port=None, warmup=False)
    with ModelServer(config) as server:
        yield f"127.0.0.1:{server.grpc_port}"


class _Server(uvicorn.Server):
    """Runs in a thread, beside the test."""

    def install_signal_handlers(self) -> None:
        """Signals are the test runner's."""


@contextlib.contextmanager
def on_a_port(root: Path, server: str, loop: gateway_case.Loop, **values) -> Iterator[str]:
    """Opens a gateway and yields the address of its page."""
    config = GatewayConfig.model_validate({**PATIENT, "root": str(root), "server": server, "port": 0, **values})
    gateway = loop(Gateway.open(config))
    http = _Server(uvicorn.Config(make_app(gateway), host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    running = None
    try:
        running = threading.Thread(target=loop, args=(http.serve(), 3600.0), daemon=True)
        running.start()
        while not http.started:
            assert running.is_alive(), "the page's server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}"
    finally:
        http.should_exit = True
        if running is not None:
            running.join(20)
        loop(gateway.close())
