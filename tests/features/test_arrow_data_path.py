"""No Python runs per row between the readers and tf.data: four times the rows, hardly more Python calls."""

import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.preparation import ingest_and_encode
from features.datasets.simulator.marketplace import SimulatorConfig, simulate
from features.encoding.feature_encoding import FeatureEncoding
from features.ingest.ingest_logs import IngestConfig
from features.spec import load_spec
from models.inputs.input_pipeline import InputConfig, make_dataset

ROWS = (10_000, 40_000)
BATCHES = 10


def python_calls(work: Path, impressions: int) -> Counter:
    """Calls of Python functions, by function, from raw logs to the last training batch."""
    simulate(SimulatorConfig(impressions=impressions, seed=1, num_items=2_000, bad_rows=0, shards=2), work / "log")
    spec = load_spec("tfx_config/features_simulated.yaml")
    tables = {table: str(work / "log" / table) for table in ("impressions", "clicks", "items", "users")}
    config = IngestConfig.model_validate({"tables": tables, "num_shards": 2})
    calls = Counter()

    def count(frame, event, _):
        if event == "call":
            calls[f"{frame.f_code.co_filename}:{frame.f_code.co_name}"] += 1

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        _, encoded, encoding = ingest_and_encode(config, spec, work)
        batches = InputConfig(batch_size=impressions // BATCHES)
        for _ in make_dataset(encoded, "train", FeatureEncoding.load(encoding), batches, shuffle=True, histories=True):
            pass
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


@pytest.mark.slow
def test_python_calls_do_not_grow_with_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    python_calls(tmp_path / "warm_up", 1_000)  # imports and caches
    few, many = (python_calls(tmp_path / str(rows), rows) for rows in ROWS)
    rooms = ("/features/", "/models/")
    assert any("/features/ingest" in name for name in few) and any("input_pipeline" in name for name in few)
    ours = {name: many[name] - few[name] for name in many if any(room in name for room in rooms)}
    # A function called per row would be called tens of thousands of times more often.
    worst = max(ours, key=ours.get)
    assert ours[worst] < 2_000, f"{worst} was called {few[worst]} and {many[worst]} times"
    assert sum(many.values()) < 1.5 * sum(few.values())
