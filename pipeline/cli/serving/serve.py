"""`clickmill serve`: a model server in this process, for development, tests and small services."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from features.errors import InputError
from pipeline.cli.console import err, out
from pipeline.cli.serving.serve_config import config
from pipeline.cli.serving.serve_reload import reload as reload_servers

serve = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Serve models over gRPC and REST, as TensorFlow Serving does.",
)


@serve.callback()
def serve_models(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="NAME=PATH", help="A model and its folder of versions; several times."),
    ] = None,
    models_config: Annotated[
        str | None, typer.Option(metavar="FILE", help="A models.config of TensorFlow Serving.")
    ] = None,
    models_config_poll: Annotated[float, typer.Option(help="Seconds between two looks at it; 0: once.")] = 0.0,
    root: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="A serving root, whose labelled release is served.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Label that is followed there (stable); several times.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of gRPC; 0: a free one.")] = 8500,
    rest_port: Annotated[int, typer.Option(help="Port of REST; 0: a free one.")] = 8501,
    rest: Annotated[bool, typer.Option("--rest/--no-rest", help="Whether REST is served.")] = True,
    cors: Annotated[bool, typer.Option("--cors/--no-cors", help="Whether REST answers pages of any origin.")] = False,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="Private key of gRPC (PEM).")] = None,
    tls_certificate: Annotated[str | None, typer.Option(metavar="FILE", help="Its certificate (PEM).")] = None,
    tls_client_ca: Annotated[
        str | None, typer.Option(metavar="FILE", help="Only clients that these authorities signed (PEM).")
    ] = None,
    workers: Annotated[int, typer.Option(help="Calls that run at a time.")] = 8,
    queue: Annotated[int, typer.Option(help="Calls that wait; more get RESOURCE_EXHAUSTED.")] = 64,
    max_message_mb: Annotated[int, typer.Option(help="The largest request, in MiB.")] = 64,
    drain: Annotated[float, typer.Option(help="Seconds that calls get to end after SIGTERM.")] = 30.0,
    poll: Annotated[float, typer.Option(help="Seconds between two looks for versions; 0: once.")] = 1.0,
    load_retries: Annotated[int, typer.Option(help="How often a load that failed is tried again.")] = 5,
    load_retry_interval: Annotated[float, typer.Option(help="Seconds between two tries.")] = 60.0,
    warmup: Annotated[bool, typer.Option("--warmup/--no-warmup", help="Whether warm-up requests are replayed.")] = True,
    warmup_iterations: Annotated[int, typer.Option(help="How often each is.")] = 1,
    intra_op_threads: Annotated[int, typer.Option(help="TensorFlow's threads of an operation; 0: cores.")] = 0,
    inter_op_threads: Annotated[int, typer.Option(help="Operations at a time; 0: cores.")] = 0,
    allow_labels_before_load: Annotated[
        bool, typer.Option(help="Whether labels may name versions that are not loaded yet.")
    ] = False,
    tensor_content: Annotated[bool, typer.Option(help="Whether answers hold raw bytes.")] = False,
    reload_root: Annotated[
        list[str] | None, typer.Option(metavar="FOLDER", help="Where models of a reload must lie; several times.")
    ] = None,
    reload: Annotated[bool, typer.Option("--reload/--no-reload", help="Whether gRPC may change the models.")] = True,
) -> None:
    """Serve models over gRPC and REST, as TensorFlow Serving does."""
    if context.invoked_subcommand is not None:
        return
    from features.config import parse_model
    from serving.server.config import ServeConfig

    values: dict[str, Any] = {
        "models": _models(model or []),
        "models_config": models_config,
        "models_config_poll_s": models_config_poll,
        "root": root,
        "labels": label or ["stable"],
        "host": host,
        "port": port,
        "rest_port": rest_port if rest else None,
        "rest_cors": cors,
        "tls": _tls(tls_key, tls_certificate, tls_client_ca),
        "workers": workers,
        "queue": queue,
        "max_message_bytes": max_message_mb * 2**20,
        "drain_s": drain,
        "poll_s": poll,
        "max_load_retries": load_retries,
        "load_retry_s": load_retry_interval,
        "warmup": warmup,
        "warmup_iterations": warmup_iterations,
        "intra_op_threads": intra_op_threads,
        "inter_op_threads": inter_op_threads,
        "allow_labels_before_load": allow_labels_before_load,
        "answer_tensor_content": tensor_content,
        "reload_roots": reload_root or [],
        "allow_reload": reload,
    }
    _run(parse_model(values, ServeConfig, "clickmill serve"))


def _models(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise InputError(f"--model takes NAME=PATH. Received: {pair!r}.")
        if name in found:
            raise InputError(f"--model: {name} is given twice.")
        _require_base(name, path)
        found[name] = path
    return found


def _require_base(name: str, path: str) -> None:
    """Refuses a base path that is not there: the server would wait for it for ever, as TensorFlow Serving does."""
    from features import storage

    if not storage.is_folder(path):
        raise InputError(f"--model {name}: {path}: no such folder. It should hold a folder a version: {path}/1.")


def _tls(key: str | None, certificate: str | None, client_ca: str | None) -> dict[str, str | None] | None:
    if key is None and certificate is None and client_ca is None:
        return None
    if key is None or certificate is None:
        raise InputError("TLS takes both --tls-key and --tls-certificate.")
    return {"key": key, "certificate": certificate, "client_ca": client_ca}


def _run(config: Any) -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # Sessions load a SavedModel as TensorFlow Serving does by a function that Python calls deprecated.
    logging.getLogger("tensorflow").addFilter(lambda record: "is deprecated" not in str(record.msg))
    with err().status("Loading models …"):
        from serving.server.server import serve_until_signalled
    serve_until_signalled(config, _tell)
    # Threads that load a model cannot be interrupted, and the interpreter would wait for them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _tell(server: Any) -> None:
    """Prints where the server listens, and a call that answers."""
    host = server.config.host
    out().print(f"gRPC on {host}:{server.grpc_port}", soft_wrap=True)
    if server.rest_port is not None:
        out().print(f"REST on http://{host}:{server.rest_port}", soft_wrap=True)
        for name in server.core.model_names():
            out().print(f"  curl http://{host}:{server.rest_port}/v1/models/{name}", soft_wrap=True)
    out().print("Ctrl-C or SIGTERM ends it: calls in flight are answered first.", soft_wrap=True)


serve.command("config")(config)
serve.command("reload")(reload_servers)
