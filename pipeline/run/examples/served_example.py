"""The end of a run: its example request over REST, from the embedded server, and the line that asks the same again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from features import storage
from features.errors import RunError
from pipeline.run.display import shown_path

if TYPE_CHECKING:
    from serving.ranker import RankedItem, Ranker

#: In the run's folder: the example request as REST takes it.
PREDICT_FILE = "example_predict.json"

#: Where `clickmill serve` answers REST unless told otherwise.
REST_URL = "http://127.0.0.1:8501"


@dataclass(frozen=True)
class ServedExample:
    """What the embedded server answered to the example request.

    Attributes:
      model: that was asked, as servers name it.
      scores: by place in the request's candidates.
      item: the candidate with the highest score.
      body: the request, a file of JSON.
      curl: a line for a shell that asks a server the same, once one serves the model (`make serve`).
    """

    model: str
    scores: tuple[float, ...]
    item: Any
    body: str
    curl: str

    @property
    def score(self) -> float:
        """The highest score."""
        return max(self.scores)


def serve_example(
    run_dir: storage.AnyPath, ranker: Ranker, request: dict[str, Any], ranked: Sequence[RankedItem]
) -> ServedExample:
    """Serves a pushed ranker on a free port of this machine's loopback, and asks it to score a request over REST.

    Args:
      run_dir: gets the request as REST takes it.
      ranker: the pushed ranker, opened.
      request: a JSON request (`serving/requests/json_request.py`) with candidates.
      ranked: them as the ranker ranked them in this process.

    Raises:
      RunError: if the server does not answer, or answers otherwise than the ranker did.
    """
    from serving.saved.signature_specs import LONG_SUMS, SERVING_DEFAULT
    from serving.validation.comparison import SAME_GRAPH, THROUGH_TABLES
    from serving.validation.wires import predict_body, predict_path

    folder, version = storage.parent(ranker.directory), int(storage.name(ranker.directory))
    model, body = storage.name(folder), storage.join(run_dir, PREDICT_FILE)
    inputs = ranker.request_inputs(request)
    tolerance = THROUGH_TABLES if LONG_SUMS in inputs else SAME_GRAPH
    asked = predict_body(SERVING_DEFAULT, inputs)
    storage.write_text(body, asked + "\n")
    (scores,) = _answered(model, version, storage.parent(folder), asked)["score"]
    expected = {item.index: item.score for item in ranked}
    far = max(abs(score - expected[place]) for place, score in enumerate(scores))
    if len(scores) != len(expected) or not far <= tolerance:
        raise RunError(
            f"the embedded server scores {body} otherwise than {ranker.directory} does in this process, by up to "
            f"{far:.3g}: at most {tolerance} is allowed."
        )
    curl = f"curl -s -d @{shown_path(body)} {REST_URL}{predict_path(model)}"
    return ServedExample(model, tuple(scores), ranked[0].item_id, body, curl)


def _answered(model: str, version: int, root: str, body: str) -> dict[str, Any]:
    """What the version answers to a REST request, on the embedded server."""
    from serving.deploy.served import ServedModel, to_text
    from serving.server.config import ServeConfig
    from serving.server.server import ModelServer
    from serving.validation.wires import predict_path, rest_predict

    with TemporaryDirectory(prefix="clickmill-") as work:
        models_config = storage.join(work, "models.config")
        storage.write_text(models_config, to_text({model: ServedModel(frozenset({version}))}, storage.absolute(root)))
        config = ServeConfig(models_config=models_config, port=0, rest_port=0, poll_s=0, max_load_retries=0, drain_s=1)
        with ModelServer(config) as server:
            return rest_predict(server.rest_port, predict_path(model), body)
