"""Raw logs to encoded examples, for the benchmarks that train."""

from __future__ import annotations

from pathlib import Path

from features.encoding.encode import encode_examples
from features.encoding.fit import fit_encoding
from features.ingest.ingest_logs import IngestConfig, run_ingest
from features.spec import FeatureSpec


def log_tables(work: Path, simulation: dict | None) -> dict[str, str]:
    """Makes a log once, simulated (arguments of `SimulatorConfig`) or MovieLens-1M. Returns its tables by name."""
    from features.datasets import download as movielens_download
    from features.datasets import movielens
    from features.datasets.simulator.marketplace import SimulatorConfig, simulate

    log, names = work / "log", ["impressions", "items", "users"]
    if simulation is not None:
        if not log.exists():
            simulate(SimulatorConfig(**simulation), log)
        return {name: str(log / name) for name in [*names, "clicks"]}
    if not log.exists():
        print("converted:", movielens.convert(movielens_download.fetch(work / "download", print), log))
    return {name: str(log / f"{name}.parquet") for name in names}


def encode_by_time(work: Path, simulation: dict | None, spec: FeatureSpec) -> tuple[Path, Path]:
    """Makes, ingests and encodes a log once, split by time.

    Returns:
      Directories of the encoded examples and of the encoding.
    """
    split = {"by": "time", "eval_fraction": 0.1, "test_fraction": 0.1}
    tables = log_tables(work, simulation)
    config = IngestConfig.model_validate({"tables": tables, "split": split, "num_shards": 4})
    return ingest_and_encode(config, spec, work)[1:]


def ingest_and_encode(config: IngestConfig, spec: FeatureSpec, work: Path) -> tuple[Path, Path, Path]:
    """Runs LogIngest, Vocabulary and FeatureEncoder once.

    Returns:
      Directories of the raw examples, of the encoded examples and of the encoding.
    """
    raw, encoded, encoding, done = (work / name for name in ("raw", "encoded", "encoding", "encoded.done"))
    if not done.exists():
        run_ingest(config, spec, raw / "examples", raw / "behaviors", raw / "dead_letters")
        fit_encoding(raw / "examples", spec, encoding)
        encode_examples(raw / "examples", raw / "behaviors", encoding, encoded)
        done.touch()
    return raw / "examples", encoded, encoding
