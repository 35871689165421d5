"""FuxiCTR's AutoInt by `train_epoch`, its own loop: with its own loader, or with batches already in memory."""

from __future__ import annotations

import math
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
    model = _autoint()(feature_map, settings, verbose=0, metrics=["logloss"], model_root=tempfile.gettempdir())
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


def _autoint() -> type:
    """AutoInt as FuxiCTR arranges it (no bias, no scaling, projected residual where widths differ, ReLU after it).

    The wheel holds the base model, the embedding and the attention, which this puts together; it leaves the model zoo
    out.
    """
    import torch
    from fuxictr.pytorch.layers import FeatureEmbedding, ScaledDotProductAttention
    from fuxictr.pytorch.models import BaseModel

    class Interacting(torch.nn.Module):
        def __init__(self, width: int, out: int, heads: int):
            super().__init__()
            self.heads = heads
            self.projections = torch.nn.ModuleList(torch.nn.Linear(width, out, bias=False) for _ in range(3))
            self.residual = torch.nn.Linear(width, out, bias=False) if width != out else torch.nn.Identity()
            self.attention = ScaledDotProductAttention()

        def forward(self, fields):
            query, key, value = (
                projection(fields).unflatten(2, (self.heads, -1)).transpose(1, 2) for projection in self.projections
            )
            attended, _ = self.attention(query, key, value)
            return (attended.transpose(1, 2).flatten(2) + self.residual(fields)).relu()

    class AutoInt(BaseModel):
        def __init__(self, feature_map, settings: dict, **arguments):
            super().__init__(feature_map, model_id="AutoInt", gpu=-1, **arguments)
            width = settings["embedding_dim"]
            out = settings["num_heads"] * settings["head_dim"]
            self.embedding = FeatureEmbedding(feature_map, width)
            widths = [width] + [out] * (settings["num_layers"] - 1)
            self.layers = torch.nn.Sequential(*(Interacting(w, out, settings["num_heads"]) for w in widths))
            self.output = torch.nn.Linear(feature_map.num_fields * out, 1)
            self.compile("adam", "binary_crossentropy", 1e-3)
            self.reset_parameters()
            self.model_to_device()

        def forward(self, inputs):
            fields = self.layers(self.embedding(self.get_inputs(inputs)))
            return {"y_pred": self.output_activation(self.output(fields.flatten(1)))}

    return AutoInt


if __name__ == "__main__":
    serve(prepare)
