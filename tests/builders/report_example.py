"""A whole run's report, built of the real result models, for the tests of the report."""

import functools
from datetime import datetime, timezone

import numpy as np

from evaluation.report.data import (
    BehaviorTableFigures,
    ComponentTiming,
    DeadLetter,
    ExampleItem,
    RankerSummary,
    ReportData,
    RetrieverSummary,
    RunInfo,
    SignatureFigures,
    TriedModel,
)
from evaluation.report.training_record import Epoch, Training
from evaluation.report.verdicts import model_verdict
from evaluation.results import (
    Counts,
    Estimate,
    EvaluationResult,
    GateResult,
    LiveComparison,
    MetricDifference,
    MetricSet,
    ReliabilityBin,
    SliceResult,
)
from evaluation.retrieval import Takes, evaluate_retrieval
from evaluation.serving_check import AnswerComparison, LoadFigures, check_of
from features.ingest.counts import IngestCounts, TableCounts
from tests.evaluation.cascade.judged_cascade import cascade, stages

UNJUDGED = "41 rows of 3 users are too few for an interval."
METRICS = {
    "auc": 0.7421,
    "gauc_user": 0.7012,
    "gauc_request": 0.6903,
    "log_loss": 0.3127,
    "normalized_entropy": 0.8911,
    "pcoc": 1.0123,
    "ece_equal_mass": 0.0041,
    "ndcg@5": 0.5512,
    "ndcg@10": 0.6123,
    "mrr": 0.4821,
}
CALIBRATED = ("log_loss", "normalized_entropy", "pcoc", "ece_equal_mass")


def estimate(value, width=0.004):
    return Estimate(value=value, low=value - width, high=value + width)


def counts():
    tables = {
        "impressions": TableCounts(
            rows_in=203_150,
            kept=198_402,
            duplicates=1_204,
            dead_letters=31,
            immature=3_513,
            reasons={"bad_timestamp": 12, "null_item_id": 9, "bad_propensity": 7, "unparsable_row": 3},
        ),
        "clicks": TableCounts(
            rows_in=21_940,
            kept=20_511,
            duplicates=402,
            dead_letters=117,
            immature=310,
            late=588,
            ignored=12,
            reasons={"unknown_impression": 114, "click_before_impression": 3},
        ),
        "items": TableCounts(rows_in=5_000, kept=4_998, dead_letters=2, reasons={"null_item_id": 2}),
        "users": TableCounts(rows_in=8_000, kept=8_000),
    }
    return IngestCounts(
        tables=tables,
        requests={"train": 9_012, "eval": 1_120, "test": 1_133},
        impressions={"train": 158_702, "eval": 19_801, "test": 19_899},
        positives={"click": {"train": 16_420, "eval": 2_011, "test": 2_080}},
        behaviors=20_511,
        behavior_users=6_812,
        unknown_items=14,
        unknown_users=2,
        num_shards=4,
    )


def evaluation(seed=0, live=True):
    rng = np.random.default_rng(seed)

    def shifted(name, description, by, metrics):
        signs = {m: -1 if m in CALIBRATED[:2] else 0 if m in CALIBRATED else 1 for m in metrics}
        values = {m: estimate(METRICS[m] + signs[m] * by, METRICS[m] / 100) for m in metrics}
        return MetricSet(name=name, description=description, metrics=values, calibrated=len(metrics) == len(METRICS))

    ranking = [name for name in METRICS if name not in CALIBRATED]
    groups = {
        "age_band": ["18-24", "25-34", "35-44", "45-54", "55+"],
        "history_end": ["0", "1-4", "5-19", "20-99", "100+"],
        "category": ["books", "electronics", "garden", "home", "music", "sports", "toys"],
    }
    slices = []
    for feature, values in groups.items():
        for value in values:
            rows = int(rng.integers(200, 6000))
            auc = METRICS["auc"] + rng.normal(0, 0.02)
            metrics = {"auc": estimate(auc, 1.3 / rows**0.5), "pcoc": estimate(1 + rng.normal(0, 0.04), 0.05)}
            slices.append(
                SliceResult(
                    feature=feature, value=value, rows=rows, positives=rows // 10, users=rows // 12, metrics=metrics
                )
            )
    edges = np.linspace(0.02, 0.62, 11) ** 1.5
    bins = [
        ReliabilityBin(
            lowest=low,
            highest=high,
            mean_score=(low + high) / 2,
            observed=estimate((low + high) / 2 + rng.normal(0, 0.006), 0.012),
            rows=1_990,
        )
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    slices[-1] = slices[-1].model_copy(update={"unjudged": UNJUDGED})
    auc = METRICS["auc"]
    difference = MetricDifference(model=auc, live=0.7388, difference=estimate(auc - 0.7388, 0.0021))
    compared = (
        GateResult(
            name="live_auc",
            value=0.0012,
            minimum=-0.005,
            passed=True,
            reason="The model’s AUC is 0.0033 above that of the live one.",
            verdict="better",
        ),
        GateResult(
            name="anchor_auc",
            value=-0.0061,
            minimum=-0.005,
            passed=True,
            reason="The rows do not show whether more than 0.005 of the anchor’s AUC was lost.",
            verdict="cannot_tell",
            rows_needed=30_200,
        ),
    )
    gates = (
        GateResult(name="min_rows", value=19_899, minimum=1_000, passed=True, reason="Found: 19899 rows."),
        GateResult(
            name="auc_over_item_ctr", value=0.0412, minimum=0.03, passed=True, reason="Beats item CTR by 0.0412."
        ),
        GateResult(name="pcoc", value=1.0123, minimum=0.9, maximum=1.1, passed=True, reason="Calibrated overall."),
        GateResult(
            name="slice_auc:age_band=55+",
            value=0.6412,
            minimum=0.65,
            passed=False,
            reason="AUC of age_band=55+ is 0.6412, below 0.65: too many older users would get poor rankings.",
        ),
    )
    return EvaluationResult(
        counts=Counts(rows=19_899, requests=1_133, users=931, items=4_102, positives=2_080),
        model=MetricSet(name="model", metrics={name: estimate(value) for name, value in METRICS.items()}),
        baselines=(
            shifted("popularity", "Clicks of the item in the train split.", -0.09, ranking),
            shifted("item_ctr", "Smoothed click rate of the item in the train split.", -0.041, METRICS),
            shifted("oracle", "The simulator's true click probability.", 0.031, METRICS),
        ),
        lead_share=estimate(0.5691, 0.03),
        slices=tuple(slices),
        reliability=tuple(bins),
        live=LiveComparison(rows=19_899, metrics={"auc": difference}, version="1702") if live else None,
        anchor=LiveComparison(rows=19_899, metrics={"auc": difference}, version="1650") if live else None,
        gates=(*gates, *(compared if live else ())),
        blessed=False,
        interval_level=0.95,
    )


def training(parameters=184_321, **parts):
    losses = [(0.341, 0.329, 0.7102), (0.322, 0.318, 0.7331), (0.314, 0.3131, 0.7408), (0.307, 0.3142, 0.7399)]
    epochs = [
        Epoch(
            epoch=i + 1,
            train_log_loss=a,
            val_log_loss=b,
            val_auc=c,
            examples_per_second=21_000 + 900 * i,
            seconds=7.6 - i / 10,
            losses={name: first - 0.0777 * i for name, first in parts.items()},
        )
        for i, (a, b, c) in enumerate(losses)
    ]
    return Training(epochs=tuple(epochs), best_epoch=3, parameters=parameters)


@functools.cache
def retrieval(live=True, taught=False, unscored=""):
    rng = np.random.default_rng(4)
    takes = rng.integers(0, 500, 900)
    items = rng.standard_normal((500, 8)).astype(np.float32)
    own = Takes(items[takes] + rng.normal(0, 1.5, (900, 8)).astype(np.float32), items, takes)
    before = Takes(items[takes] + rng.normal(0, 2.5, (900, 8)).astype(np.float32), items, takes)
    counts = np.maximum(rng.integers(-20, 60, 500), 0)
    return evaluate_retrieval(
        own,
        counts,
        live=before if live and not unscored else None,
        unknown_takes=13,
        taught={"model": own, "two_tower": before} if taught else None,
        unscored=unscored,
    )


def retrieval_training():
    epochs = [
        Epoch(
            epoch=i + 1,
            train_log_loss=5.1 - i,
            val_log_loss=5.3 - i,
            metrics={"recall@50": 0.11 + i / 50},
            seconds=4,
            losses={"ssl_loss": 2.0123 - i / 10},
        )
        for i in range(3)
    ]
    return Training(epochs=tuple(epochs), best_epoch=3, parameters=91_020)


SIGNATURES = SignatureFigures(items=4_998, occupancy_entropy=2.8713, max_entropy=3.0, centered=True)
TABLES = BehaviorTableFigures(
    version="0123456789abcdef",
    users=6_812,
    users_without=188,
    behaviors=14_211,
    record_bytes=17_408,
    payload_bytes=6_812 * 17_408,
    precision="fp32",
)

TIMINGS = (
    ComponentTiming(component="LogIngest", seconds=8.4, peak_rss_mb=712),
    ComponentTiming(component="LogStatistics", seconds=21.3, peak_rss_mb=1402.5),
    ComponentTiming(component="SchemaGen", seconds=0.21, peak_rss_mb=498),
    ComponentTiming(component="ExampleValidator", seconds=0.33, peak_rss_mb=503),
    ComponentTiming(component="Vocabulary", seconds=3.2, peak_rss_mb=610),
    ComponentTiming(component="FeatureEncoder", seconds=4.9, peak_rss_mb=655),
    ComponentTiming(component="Trainer", seconds=84.7, peak_rss_mb=2210),
    ComponentTiming(component="RankingEvaluator", seconds=14.2, peak_rss_mb=890),
    ComponentTiming(component="Pusher", seconds=0.18, peak_rss_mb=512),
)


def rankers():
    other = {name: estimate(value - 0.01) for name, value in METRICS.items()}
    return (
        RankerSummary(
            name="AutoInt",
            metrics=evaluation().model.metrics,
            blessed=False,
            failed_gates=("pcoc",),
            training=training(),
        ),
        RankerSummary(
            name="AW-MoE",
            metrics=other,
            blessed=True,
            pushed_version="1763",
            training=training(99_001, contrastive_loss=1.31),
        ),
    )


def verdicts():
    """One row a model of `report_data`; what could not be compared says why."""
    unscored = LiveComparison(
        rows=0, metrics={}, version="1699", unscored="The live model reads `brand`, which the log lacks."
    )
    coarse = evaluation().model_copy(update={"live": unscored, "anchor": None, "gates": (), "blessed": True})
    return (
        model_verdict("SSL two-tower", "retrieval", retrieval(), "1762"),
        model_verdict("AutoInt", "fine", evaluation()),
        model_verdict("HCN", "coarse", coarse, "1764"),
        model_verdict("AW-MoE", "fine", evaluation(live=False)),
        model_verdict("Cascade", "cascade", cascade()),
    )


def served():
    """A model that can be served, and one that is too slow."""
    same = AnswerComparison(
        between="gRPC = REST",
        signature="serving_default",
        output="score",
        requests=17,
        values=352,
        largest=5.96e-8,
        tolerance=1e-6,
        equal=True,
    )

    def tried(name, p99):
        reason = f"300 calls by 4 clients of `retrieve`: p99 is {p99} ms."
        gate = GateResult(name="p99_ms", value=p99, maximum=250, passed=p99 <= 250, reason=reason)
        load = LoadFigures(
            signature="retrieve", candidates=200, concurrency=4, calls=300, seconds=2.5, p50_ms=12.3, p99_ms=p99
        )
        return TriedModel(name=name, check=check_of([gate], comparisons=(same,), measured=load, rows=16))

    return tried("SSL two-tower", 41.7), tried("HCN", 1312.0)


def report_data(**changes):
    parts = {
        "run": RunInfo(
            pipeline="simulated_market",
            spec="market",
            model="AutoInt",
            started=datetime(2026, 11, 22, 22, 5, tzinfo=timezone.utc),
            seconds=187.4,
            simulated=True,
            versions={"python": "3.10.14", "clickmill": "0.1.0", "tfx": "1.16.0", "tensorflow": "2.16.2"},
        ),
        "verdicts": verdicts(),
        "counts": counts(),
        "dead_letter_sample": (
            DeadLetter(
                table="impressions",
                reason="bad_timestamp",
                detail="`timestamp` is 1732286400, seconds rather than milliseconds",
                row='{"request_id": "r812", "timestamp": 1732286400, "user_id": "u19", "item_id": "i77"}',
                source="impressions-00001.parquet",
            ),
            DeadLetter(table="clicks", reason="unknown_impression", detail="`item_id` i3 not shown", row='{"a": 1}'),
        ),
        "training": training(),
        "evaluation": evaluation(),
        "rankers": rankers(),
        "retrievers": (
            RetrieverSummary(
                name="SSL two-tower", evaluation=retrieval(), pushed_version="1762", training=retrieval_training()
            ),
            RetrieverSummary(name="Distilled two-tower", evaluation=retrieval(live=False, taught=True)),
        ),
        "signatures": SIGNATURES,
        "behavior_tables": TABLES,
        "cascade": cascade(),
        "stages": stages(),
        "served": served(),
        "pushed_version": None,
        "timings": TIMINGS,
        "ranked_example": tuple(ExampleItem(item=f"i{n}", score=0.41 / (n + 1)) for n in range(8)),
    }
    return ReportData(**(parts | changes))
