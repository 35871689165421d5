"""Opening an exported model: which version, which spec, which signatures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from pydantic import ValidationError

from features import storage
from features.errors import NotFoundError, UnscorableError
from features.histories.time_gaps import NUM_GAP_BUCKETS
from features.spec import FeatureSpec
from serving.saved.signature_specs import GAP_WEIGHTS, SPEC_FILE, HistoryInputs

_GRAPH_FILE = "saved_model.pb"


def resolve_version(model_dir: storage.AnyPath) -> str:
    """Returns the SavedModel directory that `model_dir` means.

    Args:
      model_dir: a SavedModel, or a base directory `serving_models/<name>/` of versions `1/`, `2/`, …; there the highest
        number wins, as in TensorFlow Serving.

    Raises:
      NotFoundError: if there is no SavedModel.
    """
    if storage.is_file(storage.join(model_dir, _GRAPH_FILE)):
        return storage.join(model_dir)
    versions = [path for path in storage.entries(model_dir) if storage.name(path).isdecimal()]
    versions = [path for path in versions if storage.is_file(storage.join(path, _GRAPH_FILE))]
    if not versions:
        raise NotFoundError(
            f"`model_dir` must be a SavedModel, or hold one in a directory named by its version number. Received: "
            f"{model_dir}. Push a model first (`clickmill run`)."
        )
    return max(versions, key=lambda path: int(storage.name(path)))


def read_spec(saved_model: storage.AnyPath, kind: str = "model") -> FeatureSpec:
    """Reads the features of an export, without TensorFlow.

    Args:
      saved_model: one version.
      kind: what it is, for messages.

    Raises:
      NotFoundError: if it was not written by an exporter of Clickmill.
      UnscorableError: if it was written by one of another version.
    """
    path = storage.join(saved_model, SPEC_FILE)
    if not storage.is_file(path):
        raise NotFoundError(f"{saved_model} has no `{SPEC_FILE}`: it is not a {kind} exported by Clickmill.")
    try:
        return FeatureSpec.model_validate_json(storage.read_bytes(path))
    except ValidationError as error:
        raise UnscorableError(f"{path} is of another version of Clickmill: {error}") from error


def read_signatures(saved_model: storage.AnyPath) -> dict[str, frozenset[str]]:
    """Reads the names of the inputs of an export's signatures, by signature, without loading it.

    Args:
      saved_model: one version.

    Raises:
      NotFoundError: if it is no SavedModel.
      UnscorableError: if it is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as Graphs

    path = storage.join(saved_model, _GRAPH_FILE)
    try:
        graph = Graphs.FromString(storage.read_bytes(path)).meta_graphs[0]
    except FileNotFoundError as error:
        raise NotFoundError(f"{saved_model} holds no {_GRAPH_FILE}: it is no SavedModel.") from error
    except (DecodeError, IndexError) as error:
        raise UnscorableError(f"{path} is damaged: {error}. Push or copy it again.") from error
    return {name: frozenset(signature.inputs) for name, signature in graph.signature_def.items()}


class SavedModel:
    """An exported model, opened. TensorFlow reads local files: one that lies elsewhere is copied while it is loaded.

    Args:
      model_dir: the export, or a base directory of versions (`resolve_version`).

    Raises:
      NotFoundError: if there is none, or it was not written by the exporter of its kind.
      UnscorableError: if it is damaged, or of another version of Clickmill.

    Attributes:
      directory: the SavedModel directory (one version).
      spec: the features of its signatures.
      history: what it takes of behaviour histories, where its export says so.
    """

    #: What it is, for messages, and a signature that no other kind has.
    kind: ClassVar[str]
    signature: ClassVar[str]

    def __init__(self, model_dir: storage.AnyPath):
        import tensorflow as tf

        self.directory = resolve_version(model_dir)
        self.spec = read_spec(self.directory, self.kind)
        try:
            self.history = HistoryInputs.load(self.directory)
        except ValidationError as error:
            raise UnscorableError(f"{self.directory} is of another version of Clickmill: {error}") from error
        try:
            with storage.local_copy(self.directory) as local:
                self._module = tf.saved_model.load(local)
        except Exception as error:  # of many classes: what a cut or changed file does to a graph is anyone's guess
            said = next(iter(str(error).splitlines()), "")
            said = f"{self.directory}: TensorFlow cannot load it: {said} Push or copy it again."
            raise UnscorableError(said) from error
        if self.signature not in self._module.signatures:
            raise NotFoundError(
                f"{self.directory} has no signature `{self.signature}`: it is not a {self.kind} exported by Clickmill."
            )

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of its signatures, sorted."""
        return tuple(sorted(self._module.signatures))

    @cached_property
    def gap_weights(self) -> np.ndarray | None:
        """What a behaviour counts in its bucket tables by its age (`BehaviorEncoder`); None: all count alike."""
        if GAP_WEIGHTS not in self._module.signatures:
            return None
        return self.run(GAP_WEIGHTS, {"gap": np.arange(NUM_GAP_BUCKETS, dtype=np.int32)})["weight"]

    def inputs(self, signature: str) -> dict[str, Any]:
        """The inputs of a signature, or of the joint graph, as tensor specs."""
        return self._function(signature).structured_input_signature[1]

    def _function(self, signature: str):
        """A signature, or the joint graph, which is a function beside them."""
        found = self._module.signatures.get(signature)
        return getattr(self._module, signature) if found is None else found

    def request_features(self, signature: str) -> list[str]:
        """The request features that a signature takes."""
        inputs = self.inputs(signature)
        return [feature.name for feature in self.spec.of_scope("request") if feature.name in inputs]

    def run(self, signature: str, tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
          signature: its name, or `rank_requests`, the joint graph.
          tensors: its inputs, as arrays or tensors; others are ignored.

        Returns:
          Its outputs.
        """
        import tensorflow as tf

        wanted = self.inputs(signature)
        missing = [name for name in wanted if name not in tensors]
        if missing:
            raise UnscorableError(f"{self.directory}: `{signature}` takes {', '.join(missing)}, which are not given.")
        found = self._function(signature)(**{name: tf.constant(tensors[name], wanted[name].dtype) for name in wanted})
        return {name: values.numpy() for name, values in found.items()}
