"""FuxiCTR's AutoInt by `train_epoch`, its own loop: with its own loader, or with batches already in memory."""

from __future__ import annotations

import importlib.util
import math
import os
import tempfile

from worker import serve


def prepare(settings: dict):
    import numpy as np
    import torch

    torch.set_num_threads(len(settings["cores"]))

    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader

    sizes = settings["vocabulary_sizes"]
    feature_map = FeatureMap("benchmark", tempfile.gettempdir())
    for name, size in sizes.items():
        feature_map.features[name] = {"type": "categorical", "source": "", "vocab_size": size}
    feature_map.labels = ["label"]
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    model = _autoint(settings["autoint"])(
        feature_map,
        embedding_dim=settings["embedding_dim"],
        attention_layers=settings["num_layers"],
        num_heads=settings["num_heads"],
        attention_dim=settings["num_heads"] * settings["head_dim"],
        dnn_hidden_units=[],
        optimizer="adam",
        loss="binary_crossentropy",
        verbose=0,
        metrics=["logloss"],
        model_root=tempfile.gettempdir(),
    )
    model._max_gradient_norm, model._total_steps, model._stop_training = 10.0, 0, False
    model._eval_steps = math.inf  # `fit` sets these; no evaluation is measured
    if settings["mode"] == "loader":
        batches, _ = RankDataLoader(
            feature_map,
            "train",
            settings["arrays"],
            batch_size=settings["batch_size"],
            shuffle=True,
            num_workers=1,
        )
        examples = batches.num_samples
    else:
        with np.load(settings["arrays"]) as arrays:
            columns = {name: torch.from_numpy(arrays[name]) for name in [*sizes, "label"]}
        examples = len(columns["label"])
        split = {name: column.split(settings["batch_size"]) for name, column in columns.items()}
        batches = [dict(zip(split, parts, strict=True)) for parts in zip(*split.values(), strict=True)]

    def epoch() -> int:
        model.train_epoch(batches)
        return examples

    return epoch


def _autoint(path: str) -> type:
    """The class of FuxiCTR's model zoo, which its wheel leaves out."""
    spec = importlib.util.spec_from_file_location("fuxictr_autoint_model", os.fspath(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AutoInt


if __name__ == "__main__":
    serve(prepare)
