"""What every export holds to that a server is to run, whatever its kind."""

import functools
from pathlib import Path

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2

from serving.export.warmup import MAX_REQUESTS
from serving.saved.saved_model import SavedModel
from tests.serving.export.merged_requests import assert_merging_changes_nothing
from tests.serving.export.warmup_file import warmup_requests


class SavedModelOfKind(SavedModel):
    """An export of whatever kind."""

    kind, signature = "model", "serving_default"

    @property
    def signatures(self):
        return self._module.signatures


def check_merging(folder: Path) -> None:
    """All inputs and outputs share the first dimension; what a server pads with on merging is not read."""
    saved, requests = SavedModelOfKind(folder), {}
    for request, inputs in warmup_requests(folder):
        name = request.model_spec.signature_name
        assert set(inputs) == set(saved.inputs(name)), "a server takes no other inputs, and no fewer"
        requests.setdefault(name, []).append({key: values.numpy() for key, values in inputs.items()})
    assert requests.keys() == saved.signatures.keys() and "serving_default" in requests
    for name, (smallest, largest) in requests.items():
        assert all(len(values) == 1 for values in smallest.values())
        assert all(len(values) <= MAX_REQUESTS for values in largest.values())
        assert all(spec.shape.rank and spec.shape[0] is None for spec in saved.inputs(name).values())
        outputs = saved.run(name, largest)
        numbers = [values for values in outputs.values() if values.dtype == np.float32]
        assert numbers and all(np.isfinite(values).all() for values in numbers)
        assert_merging_changes_nothing(functools.partial(saved.run, name), [smallest, largest, smallest])


def check_outputs(folder: Path) -> None:
    """No tensor stands under two names: a server that merges requests dies of it."""
    found = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for name, signature in found.meta_graphs[0].signature_def.items():
        outputs = [output.name for output in signature.outputs.values()]
        assert len(set(outputs)) == len(outputs) or name.startswith("__saved_model")
