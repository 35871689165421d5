"""Export, scoring and ranking with SavedModels whose signatures take raw feature values."""

import models  # noqa: F401  # Keras 2 must be chosen before TensorFlow is imported; `models` is the one place that does.
