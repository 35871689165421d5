"""The end of a run: its example request to the gateway, over the embedded server, and a line that asks it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from features import storage
from features.errors import RunError
from pipeline.run.display import shown_path

if TYPE_CHECKING:
    from serving.gateway.schema import Recommendation
    from serving.release.manifest import Release
    from serving.release.registry import Releases

#: In the run's folder: the example request as the gateway takes it.
GATEWAY_FILE = "example_gateway.json"
#: Where `clickmill gateway` answers unless told otherwise.
GATEWAY_URL = "http://127.0.0.1:8080"

_JSON = {"Content-Type": "application/json"}
_LISTED = 10
#: A first request opens the release, on whatever machine: it is asked for its answer, not for its time.
_PATIENCE_MS = 240_000.0
#: Flags of an answer that is whole.
_WHOLE = {"unknown_user", "fewer_than_k", "no_profile"}


@dataclass(frozen=True)
class GatewayExample:
    """What the gateway answered to the example request.

    Attributes:
      path: that was asked: `/v1/recommend`, or `/v1/rank` where the release is no cascade.
      answer: the list.
      body: the request, a file of JSON.
      curl: a line for a shell that asks the same, once a gateway serves the release (`make serve`).
      page: address of the page for people there.
    """

    path: str
    answer: Recommendation
    body: str
    curl: str
    page: str


def ask_gateway(
    run_dir: storage.AnyPath, releases: Releases, release: Release, request: dict[str, Any]
) -> GatewayExample | None:
    """Serves a release on free ports of this machine's loopback, and asks the gateway over it the example request.

    Args:
      run_dir: gets the request as the gateway takes it.
      releases: of the serving root.
      release: that the run made.
      request: a JSON request (`serving/requests/json_request.py`) with candidates.

    Returns:
      The answer; None where the serving root is no folder of this machine, which a gateway needs.

    Raises:
      RunError: if the gateway does not answer, or a stage of the answer failed.
    """
    if not storage.is_local(releases.root):
        return None
    path, body = _body(release, request)
    file = storage.join(run_dir, GATEWAY_FILE)
    storage.write_text(file, json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    answer = _answered(releases, release, path, body)
    if failed := [flag.value for flag in answer.flags if flag.value not in _WHOLE]:
        raise RunError(f"the gateway's answer to {file} is not whole: {', '.join(failed)}. Release {release.id}.")
    if not answer.items:
        raise RunError(f"the gateway answers {file} with an empty list. Release {release.id}.")
    header = "'Content-Type: application/json'"
    curl = f"curl -s -H {header} -d @{shown_path(file)} {GATEWAY_URL}{path}"
    return GatewayExample(path, answer, file, curl, f"{GATEWAY_URL}/")


def _body(release: Release, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path to ask, and the request in the gateway's form: an id, and all other features as context."""
    from serving.gateway.schema import gateway_form

    body = gateway_form(request)
    if request.get("request_id") is not None:
        body["request_id"] = request["request_id"]
    if release.cascade_models:
        return "/v1/recommend", body | {"k": _LISTED}
    return "/v1/rank", body | {"k": _LISTED, "candidates": request["candidates"]}


def _answered(releases: Releases, release: Release, path: str, body: dict[str, Any]) -> Recommendation:
    from serving.deploy.served import ServedModel, to_text
    from serving.gateway.config import GatewayConfig, StageDeadlines
    from serving.gateway.web.http_server import GatewayServer
    from serving.server.config import ServeConfig
    from serving.server.server import ModelServer

    served = {model.name: ServedModel(frozenset({model.version})) for model in release.models}
    patient = dict.fromkeys(("lookup_ms", "retrieve_ms", "coarse_ms", "fine_ms"), _PATIENCE_MS / 4)
    with TemporaryDirectory(prefix="clickmill-") as work:
        models_config = storage.join(work, "models.config")
        storage.write_text(models_config, to_text(served, storage.absolute(releases.root)))
        models = ServeConfig(
            models_config=models_config, port=0, rest_port=None, poll_s=0, max_load_retries=0, drain_s=1
        )
        with ModelServer(models) as server:
            config = GatewayConfig(
                root=releases.root,
                server=f"{models.host}:{server.grpc_port}",
                port=0,
                deadline_ms=_PATIENCE_MS,
                deadlines=StageDeadlines(**patient),
            )
            with GatewayServer(config) as gateway:
                return _post(f"{gateway.url}{path}", body | {"release": release.id})


def _post(url: str, body: dict[str, Any]) -> Recommendation:
    import urllib.error
    import urllib.request

    from serving.gateway.schema import Recommendation

    request = urllib.request.Request(url, json.dumps(body).encode("utf-8"), _JSON)
    # No proxy: the gateway is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=2 * _PATIENCE_MS / 1000) as answer:
            return Recommendation.model_validate_json(answer.read())
    except urllib.error.HTTPError as error:
        told = json.loads(error.read())["error"]["message"]
        raise RunError(f"the gateway answers the example request with {error.code}: {told}") from error
