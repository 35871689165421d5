"""Which model serves now, as far as a candidate has to beat it."""

from __future__ import annotations

from features import storage

#: Written into every SavedModel by TensorFlow; holds a random id, so two exports never share it.
FINGERPRINT_FILE = "fingerprint.pb"


def find_live_model(serving_dir: storage.AnyPath, candidate: storage.AnyPath) -> str | None:
    """Returns the latest pushed version that is not the candidate itself; None if there is none.

    The candidate is its own push after a run: leaving it out makes the answer the same before and after, so that a
    second run of the same input finds its evaluation in the cache.

    Args:
      serving_dir: `serving_models/<name>/`, holding versions as directories named by numbers.
      candidate: the SavedModel that is judged.
    """
    own = _identity(candidate)
    versions = [path for path in storage.entries(serving_dir) if storage.name(path).isdecimal()]
    for path in sorted(versions, key=lambda path: int(storage.name(path)), reverse=True):
        if storage.is_file(storage.join(path, "saved_model.pb")) and _identity(path) != own:
            return path
    return None


def _identity(saved_model: storage.AnyPath) -> bytes:
    file = storage.join(saved_model, FINGERPRINT_FILE)
    return storage.read_bytes(file if storage.is_file(file) else storage.join(saved_model, "saved_model.pb"))
