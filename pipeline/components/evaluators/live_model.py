"""Which model serves now, as far as a candidate has to beat it."""

from __future__ import annotations

from pathlib import Path

#: Written into every SavedModel by TensorFlow; holds a random id, so two exports never share it.
FINGERPRINT_FILE = "fingerprint.pb"


def find_live_model(serving_dir: str | Path, candidate: str | Path) -> Path | None:
    """Returns the latest pushed version that is not the candidate itself; None if there is none.

    The candidate is its own push after a run: leaving it out makes the answer the same before and after, so that a
    second run of the same input finds its evaluation in the cache.

    Args:
      serving_dir: `serving_models/<name>/`, holding versions as directories named by numbers.
      candidate: the SavedModel that is judged.
    """
    serving_dir = Path(serving_dir)
    if not serving_dir.is_dir():
        return None
    own = _identity(Path(candidate))
    versions = [p for p in serving_dir.iterdir() if p.name.isdecimal() and (p / "saved_model.pb").is_file()]
    others = (p for p in sorted(versions, key=lambda p: int(p.name), reverse=True) if _identity(p) != own)
    return next(others, None)


def _identity(saved_model: Path) -> bytes:
    file = saved_model / FINGERPRINT_FILE
    return (file if file.is_file() else saved_model / "saved_model.pb").read_bytes()
