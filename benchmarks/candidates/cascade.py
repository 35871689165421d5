"""What a cascade keeps of "the fine ranker scores everything", and at what share of its cost, over 100,000 items.

Simulated logs, split by time; the models are those of `cascade_models`, trained once. A cascade is n1 alone
(the fine ranker scores what is retrieved) or hcn:n1 (HCN passes n2 = 200 of them on). Requests of the test split are
scored once, by every stage and, by the fine ranker, over the whole catalogue. Shares are of one run on one machine:
`cost_share` compares medians of whole requests, the cascade's through its served path (raw values in, list out), the
ideal's with the catalogue's tensors made beforehand, which favours the ideal.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import clickmill as cm
from benchmarks.candidates.cascade_models import SIMULATION, WORK, autoint, hcn, prepare, retrieval
from benchmarks.records import Sweep

COARSE, TOP_K = 200, 10
GRID = {
    "retrieve_grid": (200, 500, 1000, 2000, 5000, 20_000, 50_000),
    "coarse_grid": (50, 100, 200, 500, 1000),
    "gates": {"max_cost_share": 0.05},
}
TIMED_SIZES = (200, 1000, 5000, 20_000)
OPTIONS = {
    "cascades": (["1000", "hcn:1000", "hcn:20000"], "n1, or hcn:n1"),
    "requests": (200, "that are scored over the whole catalogue"),
    "work": (WORK, "folder of the models of the cascade"),
}


def load_cascade(name: str, work: Path):
    """The cascade of a name: `1000`, `hcn:1000`."""
    from evaluation.cascade.config import CascadeConfig

    coarse, _, retrieve = name.rpartition(":")
    return cm.Cascade.load(
        retrieval(work),
        autoint(work),
        prepare(work)[0] / "catalogue" / "items.parquet",
        coarse=hcn(work) if coarse else None,
        config=CascadeConfig(retrieve=int(retrieve), coarse=COARSE, top_k=TOP_K),
    )


def scored_requests(work: Path, count: int) -> tuple[pa.Table, list[pa.Table]]:
    """Scores of sampled requests by every stage, made once, and the requests."""
    from serving.offline.cascade_scoring import sample_requests, score_cascade

    cascade = load_cascade("hcn:1000", work)
    requests = sample_requests(prepare(work)[0], work / "raw" / "behaviors", "test", cascade, count, seed=0)
    kept = work / f"scores-{count}.parquet"
    if not kept.exists():
        done = lambda n: n % 25 or print(n, "requests scored", flush=True)  # noqa: E731
        pq.write_table(score_cascade(cascade, requests, max(GRID["retrieve_grid"]), TOP_K, done), kept)
    return pq.read_table(kept), requests


def whole_seconds(cascade, requests: list[pa.Table], count: int = 60) -> np.ndarray:
    """Seconds of whole requests, one at a time, from the raw row to the list; after three that warm up."""
    rows = [table.slice(i, 1) for table in requests for i in range(len(table))]
    rows = rows[:: max(1, len(rows) // (count + 3))][: count + 3]
    seconds = []
    for row in rows:
        started = time.perf_counter()
        cascade.recommend_row(row)
        seconds.append(time.perf_counter() - started)
    return np.array(seconds[3:])


def ratio_of_medians(top: np.ndarray, bottom: np.ndarray, replicates: int = 1000) -> dict:
    """Ratio of medians with its bootstrap interval."""
    rng = np.random.default_rng(0)
    drawn = [
        np.median(rng.choice(top, len(top))) / np.median(rng.choice(bottom, len(bottom))) for _ in range(replicates)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(np.median(top) / np.median(bottom)), "low": float(low), "high": float(high)}


def measure(name: str, count: int, work: Path) -> dict:
    """Times and judges one cascade; returns its figures."""
    from evaluation.cascade.config import CascadeEvaluationConfig
    from evaluation.cascade.costs import CascadeCosts, StageCost
    from evaluation.cascade.evaluate import evaluate_cascade
    from evaluation.cascade.scores import CascadeScores
    from serving.offline.cascade_scoring import measure_stages, measure_whole_catalogue

    table, requests = scored_requests(work, count)
    cascade = load_cascade(name, work)
    if cascade.coarse is None:
        table = table.drop(["coarse"])
    ideal_seconds = measure_whole_catalogue(cascade, requests, 60)
    whole = whole_seconds(cascade, requests)
    stages = {name: StageCost.fit(*found) for name, found in measure_stages(cascade, requests, TIMED_SIZES, 7).items()}
    costs = CascadeCosts(**stages, ideal_seconds=float(np.median(ideal_seconds)))
    scores = CascadeScores.from_table(table, len(cascade.catalogue))
    result = evaluate_cascade(
        scores, cascade.config, CascadeEvaluationConfig.model_validate(GRID), costs, ranker="autoint"
    )
    return {
        "simulation": SIMULATION,
        "cost_share": ratio_of_medians(whole, ideal_seconds),
        "cascade_ms": float(np.median(whole) * 1000),
        "ideal_ms": float(np.median(ideal_seconds) * 1000),
        "test": {"ndcg": result.chosen.metrics["ndcg"].value},
        "evaluation": result.model_dump(mode="json"),
    }


def summarise(runs: list[dict]) -> dict:
    """By cascade: what it keeps, its cost, and what others of its grid keep, by n1 and n2."""
    table = {}
    for made in runs:
        metrics = made["evaluation"]["chosen"]["metrics"]
        names = ("ndcg", "logged_ndcg_kept", "ideal_recall_retrieve", "ideal_recall_list")
        row = {name: metrics[name] for name in names}
        row |= {name: made[name] for name in ("cost_share", "cascade_ms", "ideal_ms")}
        table[made["cascade"]] = row | {
            "curves: n1, n2, ndcg with its interval, share of the ideal's list retrieved": [
                [
                    p["retrieve"],
                    p["coarse"],
                    *p["metrics"]["ndcg"].values(),
                    p["metrics"]["ideal_recall_retrieve"]["value"],
                ]
                for p in made["evaluation"]["curves"]
            ]
        }
    return table


def run(options) -> dict:
    """Judges every cascade anew."""
    sweep = Sweep("cascade")
    for name in options.cascades:
        wanted = {"cascade": name, "requests": options.requests}
        sweep.add(wanted, {**wanted, **measure(name, options.requests, options.work)})
    return {"summary": summarise(sweep.runs)}


def figures(found: dict) -> list[tuple[str, str]]:
    table = []
    for cascade, row in found["summary"].items():
        kept, share = row["ndcg"], row["cost_share"]["value"]
        figure = f"{kept['value']:.1%} [{kept['low']:.1%}, {kept['high']:.1%}] at {share:.1%} of its cost"
        table.append((f"NDCG@10 that cascade `{cascade}` keeps of the fine ranker over 100,000 items", figure))
    return table
