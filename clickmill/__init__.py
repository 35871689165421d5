"""Clickmill from Python: the one import of programs that use it.

Every name is loaded from its room when it is first used: importing `clickmill` costs nothing, and neither TensorFlow
nor TFX is imported until a name that needs it is.

Example:
  import clickmill as cm

  result = cm.run_pipeline(cm.load_config("tfx_config/simulated.yaml"))
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

#: Every public name, and the module that it stands in.
MODULES = {
    "PipelineConfig": "pipeline.config",
    "load_config": "pipeline.config",
    "create_pipeline": "pipeline.pipeline",
    "run_pipeline": "pipeline.run.run",
    "FeatureSpec": "features.spec",
    "load_spec": "features.spec",
    "simulate": "features.datasets.simulator.marketplace",
    "SimulatorConfig": "features.datasets.simulator.config",
    "IngestConfig": "features.ingest.config",
    "run_ingest": "features.ingest.ingest_logs",
    "fit_encoding": "features.encoding.fit",
    "encode_examples": "features.encoding.encode",
    "FeatureEncoding": "features.encoding.feature_encoding",
    "AutoInt": "models.autoint.model",
    "AutoIntConfig": "models.autoint.config",
    "AwMoe": "models.aw_moe.model",
    "AwMoeConfig": "models.aw_moe.config",
    "Hcn": "models.hcn.model",
    "HcnConfig": "models.hcn.config",
    "TwoTower": "models.two_tower.model",
    "TwoTowerConfig": "models.two_tower.config",
    "RankingModel": "models.ranking_model",
    "FeatureEmbedding": "models.embedding",
    "TrainingConfig": "models.training.config",
    "train": "models.training.loop",
    "evaluate": "evaluation.ranking",
    "EvaluationConfig": "evaluation.config",
    "replay": "evaluation.replay.replay",
    "LogColumns": "evaluation.replay.log_table",
    "ReplayPlan": "evaluation.replay.verdicts.replay_report",
    "export_ranker": "serving.export.ranker",
    "Ranker": "serving.ranker",
    "Cascade": "serving.cascade",
    "BseStore": "serving.user_stores.bse.store",
    "Releases": "serving.release.registry",
    "score_examples": "serving.offline.scoring",
    "Kind": "pipeline.model_kinds",
    "Strict": "features.config",
    "ClickmillError": "features.errors",
}

__all__ = ["__version__", *MODULES]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'clickmill' has no name {name!r}. It has: {', '.join(sorted(MODULES))}.")
    value = getattr(importlib.import_module(MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
