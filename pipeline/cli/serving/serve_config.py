"""`clickmill serve config`: what TensorFlow Serving is started with, written from the labelled releases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import InputError
from pipeline.cli.console import err, out

if TYPE_CHECKING:
    from serving.deploy.config import Deployment
    from serving.release.manifest import Release


def config(
    root: Annotated[
        str, typer.Option("--root", metavar="FOLDER", help="Serving root: models, releases and their labels.")
    ] = "serving_models",
    output: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Where the files go.")] = "deploy",
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="LABEL", help="Serve the release of this label; by default, of every label."),
    ] = None,
    canary: Annotated[
        str | None, typer.Option("--canary", metavar="ID", help="Serve this release too, as `canary`.")
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option("--settings", metavar="FILE", help="YAML with what is configured of a deployment; see the guide."),
    ] = None,
    callers: Annotated[int | None, typer.Option(help="Calls at once to one server; 64 by default.")] = None,
    cpus: Annotated[int | None, typer.Option(help="Cores of one server; 2 by default.")] = None,
    memory: Annotated[int | None, typer.Option(metavar="MIB", help="Memory of one server; 2048 by default.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Servers that Kubernetes keeps up; 2 by default.")] = None,
    image: Annotated[str | None, typer.Option(help="Of TensorFlow Serving.")] = None,
    base: Annotated[
        str | None, typer.Option(metavar="PATH", help="The serving root as the server sees it; /models by default.")
    ] = None,
    batching: Annotated[
        bool | None, typer.Option("--batching/--no-batching", help="Merge requests; they are not by default.")
    ] = None,
) -> None:
    """Write what TensorFlow Serving is started with: its files, compose.yaml, Kubernetes manifests, switches."""
    given = {"callers": callers, "cpus": cpus, "memory_mb": memory, "replicas": replicas, "image": image, "base": base}
    with err().status("Writing the deployment …"):
        from serving.deploy.deployment import write_deployment

        releases = _releases(root, labels, canary)
        deployment = _deployment(settings, given, batching, root, output)
        steps = write_deployment(output, releases, deployment)
    served = ", ".join(f"{label}: release {release.id}" for label, release in sorted(releases.items()))
    out().print(f"{output}: {served}", soft_wrap=True, markup=False)
    if steps:
        told = ", then ".join(step.name for step in steps)
        out().print(
            f"a server that runs is switched by `clickmill serve reload --deploy {output}`: {told}", soft_wrap=True
        )


def _releases(root: str, labels: list[str] | None, canary: str | None) -> dict[str, Release]:
    from pipeline.cli.console import require_folder
    from serving.release.registry import Releases

    require_folder(root)
    registry = Releases(root)
    set_there = registry.labels()
    asked = labels or sorted(set(set_there) - ({"canary"} if canary else set()))
    found = {label: registry.labelled(label) for label in asked or ["stable"]}
    return found | ({"canary": registry.get(canary)} if canary else {})


def _deployment(
    settings: str | None, given: dict[str, Any], batching: bool | None, root: str, output: str
) -> Deployment:
    """Returns the deployment of a file of settings, with what the command line says above it."""
    from features import storage
    from features.config import parse_model, read_yaml
    from serving.deploy.config import Deployment

    values = read_yaml(settings) if settings else {}
    values |= {name: value for name, value in given.items() if value is not None}
    if batching is not None:
        held = values.get("batching", {})
        if not isinstance(held, dict):
            raise InputError(f"{settings}: `batching` holds keys, as `max_batch_size`. Received: {held!r}")
        values["batching"] = held | {"enabled": batching}
    if storage.is_local(root) and storage.is_local(output):
        relative = os.path.relpath(storage.absolute(root), storage.absolute(output))
        values.setdefault("root", os.path.join(".", relative) if relative[0] != "." else relative)
    else:
        values.setdefault("base", storage.absolute(root))
    return parse_model(values, Deployment, settings or "the options")
