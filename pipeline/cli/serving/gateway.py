"""`clickmill gateway`: a user in, ranked items out, over a model server."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import InputError
from pipeline.cli.console import err, out, require_folder

if TYPE_CHECKING:
    from serving.gateway.config import GatewayConfig
    from serving.gateway.http_server import GatewayServer
    from serving.gateway.model_server import ModelServerProcess

#: Seconds within which a gateway of a server that answers should be ready.
_READY_S = 30.0


def gateway(
    root: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The serving root, whose labelled release is served.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label that is followed there; latest: the newest.")] = None,
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="gRPC of the model server (127.0.0.1:8500).")
    ] = None,
    with_server: Annotated[
        bool, typer.Option("--with-server", help="Start the embedded model server at that port too.")
    ] = False,
    rest_port: Annotated[int, typer.Option(help="REST of --with-server; 0: a free one.")] = 8501,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of HTTP (8080); 0: a free one.")] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="MS", help="Milliseconds for a request (500); stages get shares.")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(help="Requests that are worked on at a time (8).")] = None,
    waiting: Annotated[int | None, typer.Option(help="Requests that wait; more are refused with 429 (64).")] = None,
    experiments: Annotated[str | None, typer.Option(metavar="FILE", help="YAML of the experiments.")] = None,
    exposure_log: Annotated[str | None, typer.Option(metavar="FOLDER", help="Where shown lists are logged.")] = None,
    allow_forced: Annotated[
        bool | None,
        typer.Option("--allow-forced/--no-forced", help="Whether a layer's testers may force its variants."),
    ] = None,
    drain: Annotated[float | None, typer.Option(help="Seconds that requests get to end after SIGTERM (10).")] = None,
    settings: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="YAML with these and further settings (GatewayConfig); options go above it."),
    ] = None,
) -> None:
    """Recommend and rank over HTTP: the cascade of a release, over a model server."""
    given = {
        "root": root,
        "label": label,
        "server": server,
        "host": host,
        "port": port,
        "deadline_ms": deadline,
        "max_concurrent": concurrent,
        "max_waiting": waiting,
        "experiments": experiments,
        "exposure_log": exposure_log,
        "allow_forced": allow_forced,
        "drain_s": drain,
    }
    config = _config(settings, given, lowest=0 if with_server else 1)
    _check_release(config)
    if with_server and not 0 <= rest_port <= 65535:
        raise InputError(f"--rest-port is a port, from 0 to 65535. Received: {rest_port}.")
    serve(config, rest_port if with_server else None)


def _config(settings: str | None, given: dict[str, Any], lowest: int) -> GatewayConfig:
    from features.config import parse_model, read_yaml
    from serving.gateway.config import GatewayConfig

    values = (read_yaml(settings) if settings else {}) | {k: v for k, v in given.items() if v is not None}
    if given["deadline_ms"] and "deadlines" not in values:
        values["deadlines"] = _shares_of(given["deadline_ms"])
    if "root" not in values:
        raise InputError("name the serving root by --root, as `--root serving_models`: `clickmill run` fills it.")
    config = parse_model(values, GatewayConfig, settings or "clickmill gateway")
    _, _, port = config.server.rpartition(":")
    if not port.isdecimal() or not lowest <= int(port) < 65536:
        raise InputError(f"--server is HOST:PORT, as 127.0.0.1:8500. Received: {config.server!r}.")
    return config


def _shares_of(deadline_ms: float) -> dict[str, float]:
    """The stages' default deadlines, as the same shares of another one for the whole."""
    from serving.gateway.config import GatewayConfig, StageDeadlines

    whole = GatewayConfig.model_fields["deadline_ms"].default
    return {
        stage: each * deadline_ms / whole
        for stage, each in StageDeadlines().model_dump().items()
        if stage != "explain_ms"
    }


def _check_release(config: GatewayConfig) -> None:
    from serving.release.registry import Releases

    require_folder(config.root)
    Releases(config.root).labelled(config.label)


def serve(config: GatewayConfig, rest_port: int | None) -> None:
    """Answers until SIGTERM or SIGINT; then the gateway drains, and after it the model server that came with it.

    Args:
      config: of the gateway.
      rest_port: of the embedded model server's REST; None: another process serves the models.
    """
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    from serving.gateway.http_server import GatewayServer, answer_until_signalled, caught_signals

    models = None if rest_port is None else _model_server(config, rest_port)
    with caught_signals() as received, ExitStack() as stack:
        if models is not None:
            stack.callback(models.stop)
            with err().status("Loading models …"):
                if not models.start(received):
                    return
            config = _beside(models, config)
        server = stack.enter_context(GatewayServer(config))
        with err().status("Waiting for the model server …"):
            missing = server.wait_until_ready(_READY_S, received)
        _tell(server, missing)
        answer_until_signalled(server, received, lambda: models is None or models.running)


def _beside(models: ModelServerProcess, config: GatewayConfig) -> GatewayConfig:
    """The configuration of a gateway over a model server that came with it, and has told its ports."""
    host = config.server.rpartition(":")[0]
    address = f"{host}:{models.grpc_port}"
    out().print(f"model server: gRPC on {address}, REST on http://{host}:{models.rest_port}", soft_wrap=True)
    return config.model_copy(update={"server": address})


def _model_server(config: GatewayConfig, rest_port: int) -> ModelServerProcess:
    from features.config import parse_model
    from serving.gateway.model_server import ModelServerProcess
    from serving.server.config import ServeConfig

    host, _, port = config.server.rpartition(":")
    values = {
        "root": config.root,
        "labels": [config.label],
        "host": host.strip("[]"),
        "port": int(port),
        "rest_port": rest_port,
    }
    return ModelServerProcess(parse_model(values, ServeConfig, "clickmill gateway --with-server"))


def _tell(server: GatewayServer, missing: list[str]) -> None:
    """Prints where the gateway answers, and a call that it answers."""
    for each in missing:
        out().print(f"not ready yet: {each}", soft_wrap=True, markup=False)
    body = '{"user": null, "k": 5}'
    out().print(f"gateway: {server.url}, its interface: {server.url}/docs", soft_wrap=True, markup=False)
    out().print(
        f"  curl -s -H 'Content-Type: application/json' -d '{body}' {server.url}/v1/recommend",
        soft_wrap=True,
        markup=False,
    )
    out().print("Ctrl-C or SIGTERM ends it: requests in flight are answered first.", soft_wrap=True)
