"""The ranking models, as Keras models on TensorFlow Recommenders."""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
