"""What a server would replay of an export."""

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.export.warmup import WARMUP_FILE


def warmup_requests(directory):
    """The `PredictRequest`s that TensorFlow Serving finds in an export, in order, each with its inputs by name."""
    for record in tf.data.TFRecordDataset(f"{directory}/{WARMUP_FILE}"):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(proto), proto.dtype) for name, proto in request.inputs.items()}
        yield request, inputs
