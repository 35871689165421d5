"""AnomalyGate: stops the run where ExampleValidator found the data to break its schema.

ExampleValidator records anomalies and succeeds; everything that learns from the data waits for this gate.
"""

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies

from features import storage
from features.errors import InputError

ANOMALIES_FILE = "SchemaDiff.pb"


class DataAnomalyError(InputError):
    """The data breaks its schema. The message names every split, feature and reason."""


def describe_anomalies(split: str, anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Returns one line per anomaly: the split, the feature, what is wrong and where the values are."""
    lines = []
    if anomalies.HasField("dataset_anomaly_info"):
        info = anomalies.dataset_anomaly_info
        lines.append(f"split `{split}`: {info.short_description}: {info.description}")
    for feature, info in sorted(anomalies.anomaly_info.items()):
        lines.append(f"split `{split}`, feature `{feature}`: {info.short_description}. {info.description}")
    return lines


@component
def AnomalyGate(anomalies: InputArtifact[ExampleAnomalies]):
    """Raises DataAnomalyError if any split has an anomaly."""
    lines = []
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        path = storage.join(artifact_utils.get_split_uri([anomalies], split), ANOMALIES_FILE)
        lines += describe_anomalies(split, anomalies_pb2.Anomalies.FromString(storage.read_bytes(path)))
    if lines:
        raise DataAnomalyError(
            f"The data breaks its schema ({len(lines)} anomalies); nothing was trained.\n  " + "\n  ".join(lines)
        )
