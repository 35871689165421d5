"""Opening an exported ranker: which version, which spec, which signatures."""

from __future__ import annotations

import json
from pathlib import Path

from features.spec import FeatureSpec
from serving.requests.history_inputs import ENCODE_BEHAVIORS, HistoryInputs
from serving.signature_specs import (
    ATTENTION_FIELDS_FILE,
    EXPLAIN,
    RANK_REQUESTS,
    SERVING_DEFAULT,
    SPEC_FILE,
)


def resolve_version(model_dir: str | Path) -> Path:
    """Returns the SavedModel directory that `model_dir` means.

    Args:
      model_dir: a SavedModel, or a base directory `serving_models/<name>/` of versions `1/`, `2/`, …; there the highest
        number wins, as in TensorFlow Serving.

    Raises:
      FileNotFoundError: if there is no SavedModel.
    """
    model_dir = Path(model_dir)
    if (model_dir / "saved_model.pb").is_file():
        return model_dir
    versions = [child for child in model_dir.iterdir() if child.name.isdecimal()] if model_dir.is_dir() else []
    versions = [child for child in versions if (child / "saved_model.pb").is_file()]
    if not versions:
        raise FileNotFoundError(
            f"`model_dir` must be a SavedModel, or hold one in a directory named by its version number. Received: "
            f"{model_dir}. Push a model first (`clickmill run`)."
        )
    return max(versions, key=lambda child: int(child.name))


def exported_spec(directory: Path, kind: str) -> FeatureSpec:
    """Reads the features of an export's signatures.

    Args:
      directory: the SavedModel directory.
      kind: what it should be, for the message.

    Raises:
      FileNotFoundError: if it was not exported by Clickmill.
    """
    spec_file = directory / SPEC_FILE
    if not spec_file.is_file():
        raise FileNotFoundError(f"{directory} has no `{SPEC_FILE}`: it is not a {kind} exported by Clickmill.")
    return FeatureSpec.model_validate_json(spec_file.read_text(encoding="utf-8"))


class SavedRanker:
    """An exported ranker, loaded.

    Attributes:
      directory: the SavedModel directory (one version).
      spec: the features of its signatures.
      history: what it takes of behaviour histories; None: nothing.
      attention_fields: names of the fields of `explain`, in its order; None: it has no such signature.
    """

    def __init__(self, model_dir: str | Path):
        """Loads the SavedModel or the latest version under `model_dir`.

        Raises:
          FileNotFoundError: if there is none, or it was not written by `export_ranker`.
        """
        self.directory = resolve_version(model_dir)
        self.spec = exported_spec(self.directory, "ranker")
        self.history = HistoryInputs.load(self.directory)
        fields_file = self.directory / ATTENTION_FIELDS_FILE
        self.attention_fields = None
        if fields_file.is_file():
            self.attention_fields = tuple(json.loads(fields_file.read_text(encoding="utf-8")))
        import tensorflow as tf

        self._module = tf.saved_model.load(str(self.directory))

    def serving_default(self, tensors: dict) -> dict:
        """Scores one request: `{"score": [N], "logit": [N]}` float32 from `single_request_tensors` and its like."""
        return self._run(SERVING_DEFAULT, tensors)

    def rank_requests(self, tensors: dict) -> dict:
        """Scores B requests: `{"score": [N], "logit": [N]}` float32 from `tensors_from_table`."""
        return self._run(RANK_REQUESTS, tensors)

    def explain(self, tensors: dict) -> dict:
        """Where the ranker looked: `{"attention": [N, layers, H, M, M]}`, from the inputs of `serving_default`."""
        return self._run(EXPLAIN, tensors)

    def encode_behaviors(self, tensors: dict) -> dict:
        """Embeds and signs T behaviours for BSE: `{"embedding": [T, d], "signature": [T, G], "known": [T]}`."""
        return self._run(ENCODE_BEHAVIORS, tensors)

    def _run(self, signature: str, tensors: dict) -> dict:
        import tensorflow as tf

        function = self._module.signatures[signature]
        wanted = function.structured_input_signature[1]
        outputs = function(**{name: tf.constant(tensors[name], wanted[name].dtype) for name in wanted})
        return {name: values.numpy() for name, values in outputs.items()}
