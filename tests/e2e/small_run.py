"""The run of the whole pipeline that end-to-end and contract tests share: every model, a small simulated log."""

from pathlib import Path

from features.spec import HistorySpec, load_spec
from pipeline.config import PipelineConfig

ROOT = Path(__file__).parents[2]
IMPRESSIONS = 20_000
#: Two thousand rows hardly show that a model is no worse than chance, and teach little beyond clicks an item.
GATES = {
    "min_auc": 0.45,
    "max_baseline_auc_loss": None,
    "pcoc": [0.5, 2.0],
    "slice_pcoc": None,
    "min_positives": 50,
}
MODELS = {
    "two_tower": {
        "training": {"epochs": 2, "input": {"batch_size": 256}},
        "evaluation": {"ks": [10, 100], "gates": {"min_lift": 0.5, "min_takes": 50}},
    },
    "autoint": {
        "parameters": {"exclude_features": ["item_id", "title"], "history": {"short": "din", "long": "sdim"}},
        "training": {"epochs": 4, "input": {"batch_size": 256}},
    },
    "aw_moe": {
        "parameters": {
            "expert_units": [8],
            "exclude_features": ["item_id", "title"],
            "history": {"short": "target_attention", "long": "sdim"},
        },
        "training": {"epochs": 3, "input": {"batch_size": 256}},
    },
    "retrieval": {
        "kind": "two_tower",
        "teacher": "autoint",
        "parameters": {"exclude_features": ["item_id", "title"]},
        "training": {"epochs": 8, "patience": 8, "optimizer": {"learning_rate": 5e-3}},
        "lists": {"requests": 300, "group": 30, "uniform": 100, "retrieved": 100, "retrieve": 200},
        "evaluation": {"ks": [10, 100], "gates": {"min_takes": 50}},
    },
    "hcn": {
        "parameters": {"dim": 16, "exclude_features": ["item_id", "title"], "distillation": 1.0},
        "training": {"epochs": 3, "input": {"batch_size": 256}},
        "list_training": {"epochs": 2},
        "candidates": {"retrieve": 100, "sample": 4},
        "teacher": "autoint",
    },
}


def make_config(root: Path, **changes) -> PipelineConfig:
    log = root / "log"
    spec = load_spec(ROOT / "tfx_config" / "features_simulated.yaml")
    # Few users of a small log have fifty behaviours: with a window of five, many have a long history.
    history = HistorySpec(features=spec.history.features, short_length=5, long_length=100)
    values = {
        "name": "e2e",
        "feature_spec": spec.model_copy(update={"history": history}),
        "simulate": {"out": log, "log": {"impressions": IMPRESSIONS, "seed": 3}},
        "ingest": {
            "tables": {name: str(log / name) for name in ("impressions", "clicks", "items", "users")},
            "num_shards": 4,
        },
        "models": MODELS,
        "evaluation": {
            "slices": {"features": ["age_band", "history_length"], "min_rows": 300},
            "gates": GATES,
        },
        "cascade": {
            "retrieve": 100,
            "coarse": 50,
            "sample_requests": 40,
            "evaluation": {
                "retrieve_grid": [50, 100, 400],
                "coarse_grid": [20, 50],
                "gates": {"min_requests": 40, "min_ndcg_kept": 0.3, "max_cost_share": None},
            },
        },
        # A hundred requests or two tell little, and must not stop the release.
        "replay": {"propensities": "conditional", "slots": 1, "refuse": []},
        # However slow the machine is: no test of a whole run is about time.
        "serving": {"p99_ms": 60_000, "calls": 40, "candidates": 50, "rows": 4},
        # A lane imports TensorFlow for itself: only the test of lanes pays for it.
        "lanes": 1,
        "run_dir": root / "run",
        "serving_dir": root / "serving",
    }
    return PipelineConfig.model_validate({**values, **changes})
