"""The texts of a deployment: flags and files of the server, compose.yaml, the manifests for Kubernetes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from features import storage
from serving.deploy.config import CONFIG_FOLDER, Deployment
from serving.deploy.served import Served, to_text

if TYPE_CHECKING:
    import jinja2

#: Where the metrics are, TensorFlow Serving's own default.
METRICS_PATH = "/monitoring/prometheus/metrics"


def server_flags(deployment: Deployment) -> list[str]:
    """Returns the command line of `tensorflow_model_server`, without the program."""
    flags = {
        "port": deployment.grpc_port,
        "rest_api_port": deployment.rest_port,
        "model_config_file": f"{CONFIG_FOLDER}/models.config",
        # Without it a models.config with labels ends the start: nothing is available yet when labels are looked at.
        "allow_version_labels_for_unavailable_models": "true",
        "monitoring_config_file": f"{CONFIG_FOLDER}/monitoring.config",
        "enable_grpc_healthcheck_service": "true",
        "grpc_max_threads": deployment.grpc_threads,
        "rest_api_num_threads": deployment.callers,
        "rest_api_timeout_in_ms": deployment.rest_timeout_ms,
        # A connection lives so long: clients learn of new servers, and leave one that is to go before it is stopped.
        "grpc_channel_arguments": f"grpc.max_connection_age_ms={deployment.drain_seconds * 2000 // 3}",
        "tensorflow_intra_op_parallelism": deployment.cpus,
        "tensorflow_inter_op_parallelism": deployment.cpus,
        # By default a start with a broken version keeps the ports shut for five minutes, and a switch waits as long.
        "max_num_load_retries": 1,
        "load_retry_interval_micros": 5_000_000,
    }
    if deployment.batching.enabled:
        flags |= {"enable_batching": "true", "batching_parameters_file": f"{CONFIG_FOLDER}/batching_params.pbtxt"}
    return [f"--{name}={value}" for name, value in flags.items()]


def gateway_flags(deployment: Deployment, server: str) -> list[str]:
    """Returns the command line of the deployment's gateway, without the program.

    Args:
      deployment: one with a gateway.
      server: address of the servers' gRPC, as the gateway sees it.
    """
    gateway = deployment.gateway
    options = {
        "root": deployment.base,
        "label": gateway.label,
        "server": server,
        # Its container lets in whom the ports of compose.yaml, or the network policy, let in.
        "host": "0.0.0.0",
        "port": gateway.port,
        "drain": gateway.drain_seconds,
    }
    return ["gateway", *(f"--{name}={value}" for name, value in options.items())]


def server_files(served: Served, deployment: Deployment, *comments: str) -> dict[str, str]:
    """Returns the files that a server reads, by name.

    Args:
      served: what it serves.
      deployment: how.
      *comments: lines above the models.config, as which releases it was made of.
    """
    asked = [(name, label) for name, model in sorted(served.items()) for label in sorted(model.labels)]
    paths = [f"/v1/models/{name}/labels/{label}/metadata" for name, label in asked]
    templates = _templates()
    values = {"deployment": deployment, "metrics_path": METRICS_PATH, "ready_paths": paths}
    drawn = {
        name: templates.get_template(f"{name}.j2").render(values)
        for name in ("monitoring.config", "batching_params.pbtxt", "ready.sh")
    }
    return {"models.config": to_text(served, deployment.base, *comments), **drawn}


def compose(deployment: Deployment) -> str:
    """Returns a compose.yaml; it stands beside the folder `server` of the server's files."""
    values = _values(deployment)
    if deployment.gateway:
        values["gateway_flags"] = gateway_flags(deployment, f"serving:{deployment.grpc_port}")
    return _templates().get_template("compose.yaml.j2").render(values)


def kubernetes(deployment: Deployment, files: dict[str, str]) -> str:
    """Returns the manifests for Kubernetes.

    Args:
      deployment: what is served, and how.
      files: of the server, as `server_files` gives them; they make up the ConfigMap.
    """
    digest = hashlib.sha256("\0".join(part for item in files.items() for part in item).encode("utf-8")).hexdigest()
    values = {
        "server_files": files,
        "config_name": f"{deployment.name}-{digest[:10]}",
        "labels": _labels(deployment.name),
        "gateway_labels": _labels(f"{deployment.name}-gateway"),
    }
    templates, values = _templates(), _values(deployment) | values
    drawn = templates.get_template("kubernetes.yaml.j2").render(values)
    if deployment.gateway is None:
        return drawn
    # The service has no address of its own: its name stands for all pods, among whom gRPC takes turns.
    values["gateway_flags"] = gateway_flags(deployment, f"dns:///{deployment.name}:{deployment.grpc_port}")
    return drawn + templates.get_template("kubernetes_gateway.yaml.j2").render(values)


def _labels(name: str) -> str:
    return f"{{app.kubernetes.io/name: {name}, app.kubernetes.io/part-of: clickmill}}"


def _values(deployment: Deployment) -> dict[str, object]:
    return {
        "deployment": deployment,
        "flags": server_flags(deployment),
        "config_folder": CONFIG_FOLDER,
        "metrics_path": METRICS_PATH,
        "local_models": storage.is_local(deployment.base),
    }


def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"in_yaml": _in_yaml, "in_compose": lambda text: _in_yaml(text).replace("$", "$$")}
    return environment


def _in_yaml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # every string of JSON is one of YAML
