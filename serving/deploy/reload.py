"""Carries a switch out on servers that run: reloads over gRPC, each awaited, and taken back where one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.errors import RunError
from serving.deploy.served import Served, ServedModel, to_proto
from serving.deploy.switch import Step, switch_steps

if TYPE_CHECKING:
    import grpc
    from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

#: Seconds between two questions whether a version is available.
POLL_S = 0.2
#: Seconds after which a question that a server answers from memory is given up.
ASK_S = 10.0


@dataclass(frozen=True)
class Certificates:
    """Files of TLS, in PEM.

    Attributes:
      authority: by which the server is known; None: the connection is not encrypted.
      certificate: this client's own, where the server asks for one; with `key`.
      key: of the certificate.
    """

    authority: str | None = None
    certificate: str | None = None
    key: str | None = None

    def channel(self, address: str) -> grpc.Channel:
        """Returns a connection to `host:port`. Raises `OSError` if a file cannot be read."""
        import grpc

        from features import storage

        if self.authority is None:
            return grpc.insecure_channel(address)
        own = [storage.read_bytes(path) if path else None for path in (self.authority, self.key, self.certificate)]
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(*own))


class RunningServer:
    """A TensorFlow Serving, or a server that answers like it, whose configuration is replaced.

    Args:
      address: `host:port` of its gRPC.
      base: its serving root, as it sees it.
      channel: the connection.
    """

    def __init__(self, address: str, base: str, channel: grpc.Channel):
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.address = address
        self._base = base
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def served(self, names: Iterable[str], labels: Iterable[str]) -> dict[str, ServedModel]:
        """Returns what the server serves of these models under these labels; it tells of no others.

        Raises:
          RunError: if it does not answer.
        """
        found = {}
        for name in names:
            versions = frozenset(each.version for each in self._states(name) if _is_available(each))
            held = {label: version for label in labels if (version := self._labelled(name, label)) in versions}
            if versions:
                found[name] = ServedModel(versions, held)
        return found

    def reload(self, served: Served, timeout_s: float) -> None:
        """Replaces the server's configuration. Returns when models that are new to it are loaded.

        Raises:
          RunError: if it refuses, or takes longer.
        """
        from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

        request = ReloadConfigRequest(config=to_proto(served, self._base))
        answer = self._call(self._models.HandleReloadConfigRequest, request, timeout_s)
        if answer.status.error_code:
            raise RunError(f"{self.address} refused the configuration: {answer.status.error_message}")

    def await_available(self, awaited: Mapping[str, Iterable[int]], timeout_s: float) -> None:
        """Returns when every version is available.

        Raises:
          RunError: if one fails to load, or not all are available in time.
        """
        ends = time.monotonic() + timeout_s
        missing = [(name, version) for name, versions in awaited.items() for version in sorted(versions)]
        while True:
            states = {name: {each.version: each for each in self._states(name)} for name in {n for n, _ in missing}}
            missing = [(name, version) for name, version in missing if not _is_available(states[name].get(version))]
            for name, version in missing:
                state = states[name].get(version)
                if state is not None and state.state == state.END and state.status.error_code:
                    raise RunError(
                        f"{self.address} cannot load version {version} of {name}: {state.status.error_message}"
                    )
            if not missing:
                return
            if time.monotonic() >= ends:
                name, version = missing[0]
                raise RunError(
                    f"{self.address}: version {version} of {name} is not available after {timeout_s:g} s. "
                    f"Does {self._base}/{name}/{version} exist there?"
                )
            time.sleep(POLL_S)

    def await_retired(self, kept: Served, names: Iterable[str], timeout_s: float) -> None:
        """Returns when of these models no version is available but those that are kept.

        A reload answers before anything is unloaded: who switches back at once would be told that a version is
        available which is on its way out.

        Raises:
          RunError: if one is available for longer, as while calls of it run.
        """
        ends = time.monotonic() + timeout_s
        while True:
            found = {name: model.versions for name, model in self.served(names, ()).items()}
            left = [(name, version) for name, have in found.items() for version in have - _versions(kept, name)]
            if not left:
                return
            if time.monotonic() >= ends:
                name, version = min(left)
                raise RunError(f"{self.address}: version {version} of {name} is still loaded after {timeout_s:g} s.")
            time.sleep(POLL_S)

    def _states(self, name: str) -> Sequence[ModelVersionStatus]:
        import grpc
        from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest

        request = GetModelStatusRequest()
        request.model_spec.name = name
        answer = self._call(self._models.GetModelStatus, request, ASK_S, unless=grpc.StatusCode.NOT_FOUND)
        return answer.model_version_status if answer is not None else ()

    def _labelled(self, name: str, label: str) -> int | None:
        # The status does not look at labels; metadata resolves one and tells the version.
        import grpc
        from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest

        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name, request.model_spec.version_label = name, label
        unset = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
        answer = self._call(self._predictions.GetModelMetadata, request, ASK_S, unless=unset)
        return answer.model_spec.version.value if answer is not None else None

    def _call(self, method, request, timeout_s: float, unless=()):
        """Calls; returns None where the server answers one of the codes `unless`."""
        import grpc

        try:
            return method(request, timeout=timeout_s, wait_for_ready=False)
        except grpc.RpcError as error:
            if error.code() in (unless if isinstance(unless, tuple) else (unless,)):
                return None
            told = f"{self.address} answered {error.code().name}: {error.details()}."
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and request.DESCRIPTOR.name == "ReloadConfigRequest":
                # WaitUntilModelsAvailable has no time limit, and reloads wait for one another.
                told += (
                    f" It still waits for a model that is new to it: see that each version lies below {self._base}. "
                    "Until then it takes no other configuration, and answers as before."
                )
            raise RunError(told) from error


def switch(
    servers: Sequence[RunningServer],
    after: Served,
    names: Iterable[str] = (),
    labels: Iterable[str] = ("stable", "canary"),
    timeout_s: float = 300.0,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Brings running servers to serve `after`, all through one step before any begins the next.

    A server that fails to load or to label takes itself and all others back to what they served. Servers that serve
    `after` already are left alone, and a switch that was interrupted is finished by calling again. A reload replaces
    the whole configuration: models that neither `after` nor `names` name are no longer served.

    Args:
      servers: to switch.
      after: what they are to serve.
      names: further models that they may serve now, to be retired last.
      labels: further labels that may be set now; of others the server does not tell, and they are lost.
      timeout_s: for each step of each server.
      tell: takes a line on every step that is done.

    Returns:
      How many servers were switched.

    Raises:
      RunError: if a server cannot be asked, or a step fails; the message says what is served then.
    """
    wanted = {label for model in after.values() for label in model.labels}
    asked, known = sorted({*after, *names}), sorted({*labels, *wanted})
    before = {server: server.served(asked, known) for server in servers}
    steps = {server: {step.name: step for step in switch_steps(before[server], after)} for server in servers}
    for phase in ("load", "label", "retire"):
        try:
            for server, own in steps.items():
                if phase in own:
                    _do(server, own[phase], asked, timeout_s)
                    tell(f"{server.address}: {phase}")
        except RunError as error:
            if phase == "retire":
                raise RunError(f"{error} The labels have moved; call again to retire the old versions.") from error
            touched = {server: before[server] for server, own in steps.items() if own and before[server]}
            raise RunError(f"{error} {_take_back(touched, timeout_s)}") from error
    return sum(bool(own) for own in steps.values())


def _is_available(version: ModelVersionStatus | None) -> bool:
    return version is not None and version.state == version.AVAILABLE


def _versions(served: Served, name: str) -> frozenset[int]:
    return served[name].versions if name in served else frozenset()


def _do(server: RunningServer, step: Step, names: Iterable[str], timeout_s: float) -> None:
    ends = time.monotonic() + timeout_s
    server.reload(step.served, timeout_s)
    server.await_available(step.awaited, max(0.0, ends - time.monotonic()))
    if step.name == "retire":
        server.await_retired(step.served, names, max(0.0, ends - time.monotonic()))


def _take_back(before: Mapping[RunningServer, Served], timeout_s: float) -> str:
    """Reloads what was served: its versions are still loaded, so that one reload does. Returns what came of it."""
    failed = []
    for server, served in before.items():
        try:
            server.reload(served, timeout_s)
        except RunError as error:
            failed.append(str(error))
    if failed:
        return f"Taking it back failed too: {' '.join(failed)}"
    return "Every server serves what it served before."
