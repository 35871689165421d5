"""A tiny SavedModel with the request axis first: strings, whole numbers, floats and lists in, scores of slates out."""

from __future__ import annotations

from pathlib import Path

REQUEST = {
    "signature_name": "serving_default",
    "inputs": {
        "city": ["Köln"],
        "hour": [21],
        "price": [[59.9, 3.5, 0.25]],
        "title": [[["red", "shoe"], ["", "größe"], ["b", ""]]],
        "num_candidates": [3],
    },
}


def save_ranking_model(folder: Path, version: int) -> Path:
    """Saves a version below the folder; its scores tell it from others.

    Returns:
      The version's folder.
    """
    import tensorflow as tf

    class Ranking(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "city"),
                tf.TensorSpec([None], tf.int64, "hour"),
                tf.TensorSpec([None, None], tf.float32, "price"),
                tf.TensorSpec([None, None, None], tf.string, "title"),
                tf.TensorSpec([None], tf.int32, "num_candidates"),
            ]
        )
        def rank(self, city, hour, price, title, num_candidates):
            of_user = tf.cast(tf.strings.length(city) + tf.cast(hour, tf.int32), tf.float32)
            letters = tf.reduce_sum(tf.cast(tf.strings.length(title), tf.float32), axis=2)
            logit = (of_user[:, tf.newaxis] + letters) / (price + 20.0) - float(version)
            known = tf.sequence_mask(num_candidates, tf.shape(price)[1])
            return {"score": tf.where(known, tf.sigmoid(logit), 0.0), "logit": logit}

    model = Ranking()
    path = folder / str(version)
    tf.saved_model.save(model, str(path), signatures=model.rank)
    return path
