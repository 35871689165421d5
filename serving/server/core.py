"""The server without its wires: what gRPC and REST both call."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import grpc

from serving.server.call_pool import CallPool
from serving.server.config import ServeConfig
from serving.server.inference.example_calls import run_classify, run_multi_inference, run_regress
from serving.server.inference.model_answers import metadata_of, status_of
from serving.server.inference.prediction import run_predict
from serving.server.server_metrics import ServerMetrics
from serving.server.status import ServingError, invalid_argument
from serving.server.versions.loaded_model import DEFAULT_SIGNATURE, LoadedModel, SessionThreads
from serving.server.versions.model_configs import check_models, check_platforms, check_roots, watched_models
from serving.server.versions.model_manager import AVAILABLE, LoadSettings, ModelManager, unavailable
from serving.server.versions.routing import Routing, new_labels
from serving.server.versions.version_files import VersionWatcher, Watched
from serving.server.versions.warmup_replay import replay_warmup

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        model_pb2,
        predict_pb2,
        regression_pb2,
    )
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

Answer = TypeVar("Answer")


class ServerCore:
    """Models that answer; safe to call from any thread. Every method ends by an answer or a `ServingError`.

    `apply` says what is served, `close` ends it. A time limit `timeout_s` is of the run in TensorFlow; None has none.

    Args:
      config: what bounds the server; what it serves is said by `apply`.

    Attributes:
      metrics: the server's figures.
      calls: the bound on calls of models; who answers by a wire runs them there.
      manager: the versions of its models.
    """

    def __init__(self, config: ServeConfig):
        self.config = config
        self.metrics = ServerMetrics(self._serves)
        self.calls = CallPool(config.workers, config.queue)
        self.manager = ModelManager(
            self._load, LoadSettings(config.load_threads, config.max_load_retries, config.load_retry_s)
        )
        self._watcher = VersionWatcher(self.manager.aspire, config.poll_s)
        self._watcher.start()
        self._routing = Routing()
        self._applied: ModelServerConfig | None = None
        self._reloads = threading.Lock()

    def predict(
        self, request: predict_pb2.PredictRequest, timeout_s: float | None = None
    ) -> predict_pb2.PredictResponse:
        """Answers `Predict`."""
        _require_spec(request)
        as_content = self.config.answer_tensor_content
        return self._with(
            request.model_spec, lambda model: run_predict(model, request, self.metrics, timeout_s, as_content)
        )

    def classify(
        self, request: classification_pb2.ClassificationRequest, timeout_s: float | None = None
    ) -> classification_pb2.ClassificationResponse:
        """Answers `Classify`."""
        _require_spec(request)
        return self._with(request.model_spec, lambda model: run_classify(model, request, self.metrics, timeout_s))

    def regress(
        self, request: regression_pb2.RegressionRequest, timeout_s: float | None = None
    ) -> regression_pb2.RegressionResponse:
        """Answers `Regress`."""
        _require_spec(request)
        return self._with(request.model_spec, lambda model: run_regress(model, request, self.metrics, timeout_s))

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, timeout_s: float | None = None
    ) -> inference_pb2.MultiInferenceResponse:
        """Answers `MultiInference`, by the version that its first task names."""
        from tensorflow_serving.apis.model_pb2 import ModelSpec

        spec = request.tasks[0].model_spec if request.tasks else ModelSpec()
        return self._with(spec, lambda model: run_multi_inference(model, request, self.metrics, timeout_s))

    def model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Answers `GetModelMetadata`: the signatures."""
        _require_spec(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid_argument(f"Metadata field {field} is not supported")
        return self._with(request.model_spec, metadata_of)

    def model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Answers `GetModelStatus`; a label is not looked at, as in TensorFlow Serving."""
        _require_spec(request)
        return status_of(request.model_spec, self.manager.states(request.model_spec.name))

    def signature_def(self, model_spec: model_pb2.ModelSpec) -> SignatureDef:
        """Returns the signature that a model specification means; refused as `predict` would refuse it."""
        name = model_spec.signature_name or DEFAULT_SIGNATURE

        def found(model: LoadedModel) -> SignatureDef:
            if name not in model.signatures:
                message = f'Serving signature key "{name}" not found.'
                raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)
            return model.signatures[name]

        return self._with(model_spec, found)

    def reload_config(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        """Answers `HandleReloadConfigRequest`: serves other models from now on, returns when new ones are available.

        Raises:
          ServingError: INVALID_ARGUMENT for a configuration that is refused, FAILED_PRECONDITION for a label of a
            version that is not available or where the server follows releases, UNKNOWN if a new model cannot be loaded.
        """
        from tensorflow_serving.apis.model_management_pb2 import ReloadConfigResponse

        before = {name: self.metrics.first_value(name) for name in request.metric_names}
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        if self.config.root is not None:
            message = f"This server follows the releases of {self.config.root}: promote another one instead."
            raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)
        check_roots(request.config.model_config_list.config, self.config.reload_roots)
        self.apply(request.config)
        response = ReloadConfigResponse()
        response.status.error_code = 0
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=self.metrics.first_value(name) - value)
        return response

    def apply(self, config: ModelServerConfig, what: str = "model") -> None:
        """Serves the models of a configuration from now on, and returns when those that are new are available.

        Args:
          config: of all models; those that it does not name go.
          what: how the message calls a model that does not become available.

        Raises:
          ServingError: as `reload_config`.
        """
        with self._reloads:
            configs = list(config.model_config_list.config)
            check_models(configs)
            old = self._applied
            if old is not None:
                check_platforms(old.model_config_list.config, configs)
            self._applied = config
            before_load = self.config.allow_labels_before_load
            labels = new_labels(configs, self._routing, self.manager.available, before_load)
            self._routing = Routing(labels)
            watched = watched_models(configs)
            known = {each.name for each in self._watcher.models}
            self._watcher.watch(watched)
            self.wait_for_models([each.name for each in watched if each.name not in known], what)

    def model_names(self) -> list[str]:
        """Returns the names of the models that are served, sorted."""
        return sorted(each.name for each in self._watcher.models)

    def watch(self, models: list[Watched]) -> None:
        """Watches these models from now on; who calls this says by `route` which of their versions calls get."""
        self._watcher.watch(models)

    def route(self, routing: Routing) -> None:
        """Gives calls other versions from now on, of all models at once."""
        self._routing = routing

    def wait_for_models(self, names: list[str], what: str = "model") -> None:
        """Returns when each model can be called.

        Raises:
          ServingError: UNKNOWN if all versions of one have failed.
        """
        reached = self.manager.wait(names)
        failed = {key: state for key, state in reached.items() if state.state != AVAILABLE}
        if failed:
            raise unavailable(failed, what)

    def close(self) -> None:
        """Ends watching and unloads every model; calls that still run are cancelled, and have ended when it returns."""
        self._watcher.stop()
        self.manager.close()
        self.calls.shutdown(wait=True, cancel_futures=True)

    def _serves(self, name: str) -> bool:
        return any(each.name == name for each in self._watcher.models)

    def _with(self, spec: model_pb2.ModelSpec, run: Callable[[LoadedModel], Answer]) -> Answer:
        """Runs something with the version that a model specification means."""
        with self._use(spec) as model:
            return run(model)

    @contextlib.contextmanager
    def _use(self, spec: model_pb2.ModelSpec) -> Iterator[LoadedModel]:
        """Yields the version that a specification means.

        Between looking up a label and taking its version the label may move and the version go: then it is looked up
        again.
        """
        with contextlib.ExitStack() as held:
            while True:
                routing = self._routing
                try:
                    model = held.enter_context(self.manager.use(spec.name, routing.version(spec)))
                except ServingError as error:
                    if error.code is grpc.StatusCode.NOT_FOUND and self._routing is not routing:
                        continue
                    raise
                break
            yield model

    def _load(self, name: str, version: int, path: str) -> LoadedModel:
        """Loads a version and warms it up."""
        threads = SessionThreads(self.config.intra_op_threads, self.config.inter_op_threads)
        model = LoadedModel(name, version, path, threads)
        try:
            if self.config.warmup:
                replay_warmup(model, self.metrics, self.config.warmup_iterations)
        except BaseException:
            model.close()
            raise
        return model


def _require_spec(request) -> None:
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
