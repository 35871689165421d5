"""Raw logs to encoded examples, for the benchmarks that train."""

from __future__ import annotations

from pathlib import Path

from features.beam_runner import make_pipeline
from features.encoder import encode_examples
from features.ingest import IngestConfig, run_ingest
from features.spec import FeatureSpec
from features.vocabulary import fit_encoding


def ingest_and_encode(config: IngestConfig, spec: FeatureSpec, work: Path) -> tuple[Path, Path, Path]:
    """Runs LogIngest, Vocabulary and FeatureEncoder once.

    Returns:
      Directories of the raw examples, of the encoded examples and of the encoding.
    """
    raw, encoded, encoding, done = (work / name for name in ("raw", "encoded", "encoding", "encoded.done"))
    if not done.exists():
        run_ingest(config, spec, raw / "examples", raw / "behaviors", raw / "dead_letters")
        with make_pipeline() as root:
            fit_encoding(root, raw / "examples", spec, encoding)
        with make_pipeline() as root:
            encode_examples(root, raw / "examples", raw / "behaviors", encoding, encoded)
        done.touch()
    return raw / "examples", encoded, encoding
