"""A day of a shop whose click probabilities are known: assigned, explored, logged, clicked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.ingest.counts import IngestCounts
from features.ingest.ingest_logs import IngestConfig, LogTables, SplitConfig, run_ingest
from features.spec import FeatureSpec
from serving.experiments.assignment import Experiments
from serving.experiments.config import ExperimentsConfig
from serving.experiments.exploration.explorer import explorer
from serving.experiments.exposure import Exposure
from serving.experiments.exposure_log import ExposureLog
from tests.builders.ingest_case import write

START, HOUR = 1_700_000_000_000, 3_600_000
ITEMS, SLOTS, USERS, DRAWS = 12, 4, 2000, 8

SPEC = FeatureSpec.model_validate(
    {
        "name": "day",
        "features": [
            {"name": "hour", "table": "impressions", "dtype": "int64"},
            {"name": "item_id", "table": "items", "dtype": "int64"},
            {"name": "price", "table": "items", "kind": "numeric"},
        ],
        "history": {"features": ["item_id"]},
    }
)
CONFIG = ExperimentsConfig.parse(
    {
        "layers": [
            {"name": "ranker", "salt": "r", "variants": [
                {"name": "old", "share": 5000}, {"name": "new", "share": 5000, "release": "canary"},
            ]},
            {"name": "explore", "salt": "e", "variants": [
                {"name": "off", "share": 1000},
                {"name": "epsilon", "share": 3000, "exploration": {"kind": "epsilon", "epsilon": 0.5, "top": 8}},
                {"name": "pl", "share": 3000, "exploration": {"kind": "plackett_luce", "temperature": 1.5}},
                {"name": "thompson", "share": 3000, "exploration": {"kind": "thompson", "scale": 2.0}},
            ]},
        ]
    }
)  # fmt: skip
DEVIATIONS = np.random.default_rng(11).normal(0, 0.6, (ITEMS, DRAWS))


def logits_at(hour: int) -> np.ndarray:
    """What the ranker says at an hour."""
    return np.sin(np.arange(ITEMS) * 1.7 + hour / 4)


def click_rates(hour: int) -> np.ndarray:
    """`[items, slots]`, the probability of a click on an item in a slot: not what the ranker says."""
    liked = 0.1 + 0.5 * (np.cos(np.arange(ITEMS) + hour / 6) + 1) / 2
    return liked[:, np.newaxis] / (1 + 0.4 * np.arange(SLOTS))


def requests(count: int, seed: int) -> Iterator[tuple[Exposure, int]]:
    """Yields exposures and their hours, spread evenly over the day."""
    rng, experiments = np.random.default_rng(seed), Experiments(CONFIG)
    for number in range(count):
        hour, user = number * 24 // count, int(rng.integers(USERS))
        assigned = experiments.assign(user)
        choice = explorer(assigned.exploration).choose(logits_at(hour), SLOTS, rng, DEVIATIONS)
        shown = Exposure(
            request_id=f"r{number}", timestamp=START + number * 24 * HOUR // count, user=user,
            items=choice.order.tolist(), release=assigned.release or "stable", policy=choice.policy,
            propensities=choice.propensities.tolist(), conditionals=choice.conditionals.tolist(),
            variants=assigned.variants, forced=assigned.forced, context={"hour": hour},
        )  # fmt: skip
        yield shown, hour


def write_day(folder: Path, count: int, seed: int = 0, **options) -> None:
    """Writes `impressions` by an `ExposureLog`, and `clicks` and `items` beside it."""
    rng, clicked = np.random.default_rng(seed + 1), []
    with ExposureLog(folder / "impressions", SPEC, **options) as log:
        for shown, hour in requests(count, seed):
            assert log.write(shown)
            clicks = rng.random(SLOTS) < click_rates(hour)[list(shown.items), np.arange(SLOTS)]
            clicked += [(shown.request_id, item, shown.timestamp + 1000) for item in np.array(shown.items)[clicks]]
    columns = zip(("request_id", "item_id", "timestamp"), zip(*clicked, strict=True), strict=True)
    write(pa.table({name: pa.array(values) for name, values in columns}), folder / "clicks")
    write(pa.table({"item_id": np.arange(ITEMS), "price": np.arange(ITEMS) / 2}), folder / "items")


def ingest_day(folder: Path) -> tuple[IngestCounts, list[dict]]:
    """Ingests what `write_day` wrote; returns the account and the requests of the examples."""
    config = IngestConfig(
        tables=LogTables(**{name: str(folder / name) for name in ("impressions", "clicks", "items")}),
        attribution_window_hours=1.0, end_of_log=START + 26 * HOUR, num_shards=2, max_bad_row_fraction=0,
        split=SplitConfig(eval_fraction=0, test_fraction=0),
    )  # fmt: skip
    counts = run_ingest(config, SPEC, folder / "examples", folder / "behaviors", folder / "dead")
    files = sorted((folder / "examples").glob("Split-*/requests-*.parquet"))
    return counts, [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def value_and_interval(rows: list[dict], target) -> tuple[float, float, float]:
    """Returns the known value of showing `target(hour)`, its estimate by IIPS, and the estimate's standard error."""
    known, found = [], []
    for row in rows:
        best = target(row["hour"])
        known.append(click_rates(row["hour"])[best, np.arange(SLOTS)].sum())
        weights = (np.array(row["item_id"]) == best) / np.array(row["propensity"])
        found.append((weights * np.array(row["click"])).sum())
    return float(np.mean(known)), float(np.mean(found)), float(np.std(found) / np.sqrt(len(found)))
