"""The pipeline's own TFX components; the standard ones come from TFX."""

import models  # noqa: F401  (chooses the Keras that TFX's import of TensorFlow then finds)
