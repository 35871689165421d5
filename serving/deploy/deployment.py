"""Writes a deployment: everything that a server of a release is started with, in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from features import storage
from serving.deploy.config import Deployment
from serving.deploy.served import read_config, served_models, to_text
from serving.deploy.server_files import compose, kubernetes, server_files
from serving.deploy.switch import Step, switch_steps

if TYPE_CHECKING:
    from serving.release.manifest import Release

MODELS_CONFIG = "server/models.config"
#: What each reload of a switch does, for whoever carries it out by hand.
TOLD = {
    "load": "Old and new versions, old labels. Then wait until every version is AVAILABLE (GetModelStatus).",
    "label": "The labels move, all at once.",
    "retire": "The old versions go.",
}


def write_deployment(out: storage.AnyPath, releases: Mapping[str, Release], deployment: Deployment) -> list[Step]:
    """Writes a deployment and returns the steps from the one that stood in the folder to it; none without one.

    Files are replaced one by one, each whole:

        server/models.config, monitoring.config, batching_params.pbtxt, ready.sh
        compose.yaml   kubernetes.yaml   tf_serving.protoset
        reload/1-load.config, 2-label.config, 3-retire.config     the switch of a server that runs, where there is one

    Args:
      out: the folder.
      releases: label → release.
      deployment: how they are served.

    Raises:
      InputError: if no release has a model.
      SpecError: if the models.config in the folder is not one that a switch can start from.
    """
    served = served_models(releases)
    before_path = storage.join(out, MODELS_CONFIG)
    before = read_config(before_path)[0] if storage.is_file(before_path) else None
    steps = switch_steps(before, served) if before is not None else []
    told = [f"{label}: release {release.id} of {release.created}" for label, release in sorted(releases.items())]
    files = server_files(served, deployment, *told)
    if before != served:  # The same again leaves the switch to it as it was.
        _write_steps(storage.join(out, "reload"), steps, deployment.base)
    for name, text in files.items():
        storage.write_text(storage.join(out, "server", name), text)
    storage.write_text(storage.join(out, "compose.yaml"), compose(deployment))
    storage.write_text(storage.join(out, "kubernetes.yaml"), kubernetes(deployment, files))
    storage.write_bytes(storage.join(out, "tf_serving.protoset"), _protoset())
    return steps


def _write_steps(folder: str, steps: list[Step], base: str) -> None:
    storage.delete(folder)
    for number, step in enumerate(steps, start=1):
        text = to_text(step.served, base, f"Step {number} of {len(steps)}, {step.name}. {TOLD[step.name]}")
        storage.write_text(storage.join(folder, f"{number}-{step.name}.config"), text)


def _protoset() -> bytes:
    from serving.deploy.descriptors import protoset

    return protoset().SerializeToString(deterministic=True)
