"""A small cascade of real exports over a simulated log: a two-tower and AutoInt at random weights."""

import numpy as np
import pyarrow as pa
import tensorflow as tf

from benchmarks.preparation import ingest_and_encode
from evaluation.cascade.config import CascadeConfig
from features.datasets.simulator.marketplace import SimulatorConfig, simulate
from features.encoding.feature_encoding import FeatureEncoding
from features.ingest.ingest_logs import IngestConfig
from features.items.signatures import sign_items
from features.spec import load_spec
from models.autoint.model import AutoInt, AutoIntConfig
from models.hcn.model import Hcn, HcnConfig
from models.inputs.input_pipeline import InputConfig, count_positives, make_dataset
from models.inputs.item_corpus import ItemCorpus
from models.two_tower.model import TwoTower, TwoTowerConfig
from serving.cascade import Cascade
from serving.export.coarse import export_coarse
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
from serving.export.ranker import export_ranker
from serving.export.two_tower import export_two_tower
from serving.saved.two_tower import SavedTwoTower

AUTOINT = {
    "variant": "reference",
    "num_layers": 2,
    "head_dim": 8,
    "history": {"short": "target_attention", "long": "sdim"},
}


class DotProductCoarse:
    """A coarse ranker by the two-tower's own vectors, negated or not: another order than the fine ranker's."""

    def __init__(self, directory, sign: float = 1.0):
        self._model, self._sign = SavedTwoTower(directory), sign
        ids, self._items = read_item_embeddings(f"{directory}/{ITEM_EMBEDDINGS_FILE}")
        self._row = {item: row for row, item in enumerate(ids.to_pylist())}

    def score(self, requests: pa.Table, item_ids: pa.Array) -> np.ndarray:
        rows = [self._row[item] for item in item_ids.to_pylist()]
        return self._sign * (self._items[rows] @ self._model.embed_users(requests)[0])


def make_log(work):
    """Raw and encoded examples of users whose histories are longer and shorter than both windows."""
    simulate(SimulatorConfig(impressions=6000, num_users=30, seed=4, shards=2), work / "log")
    tables = {name: str(work / "log" / name) for name in ("impressions", "clicks", "items", "users")}
    config = IngestConfig.model_validate({"tables": tables, "num_shards": 2})
    spec = load_spec("tfx_config/features_simulated.yaml")
    features = (*spec.history.features, "title")  # single values and several
    history = spec.history.model_copy(update={"features": features, "short_length": 4, "long_length": 9})
    return ingest_and_encode(config, spec.model_copy(update={"history": history}), work)


def export_models(encoded, encoding_dir, work) -> None:
    """Exports `two_tower/1`, `hcn/1` and `autoint/1` with weights at random."""
    encoding = FeatureEncoding.load(encoding_dir)
    corpus = ItemCorpus.load(encoded, encoding)
    tf.keras.utils.set_random_seed(1)
    counts = count_positives(encoded, "train", "click", len(corpus))
    two_tower = TwoTower(encoding, corpus, TwoTowerConfig(), train_counts=counts)

    def grown(model, long_history=True):
        """The model with weights of a size: at initial weights all users are alike."""
        small = InputConfig(batch_size=64)
        model(next(iter(make_dataset(encoded, "eval", encoding, small, histories=True, long_history=long_history))))
        for weight in model.trainable_weights:
            weight.assign(tf.random.normal(weight.shape, stddev=0.3))
        return model

    two_tower = grown(two_tower, long_history=False)
    signatures = sign_items(corpus.item_ids, two_tower.embed_corpus(with_ids=not two_tower.reads_ids))
    coarse = grown(Hcn(encoding, HcnConfig(dim=16, hidden_units=(16,), num_layers=2)))
    ranker = grown(AutoInt(encoding, AutoIntConfig.model_validate(AUTOINT), signatures))
    export_two_tower(two_tower, encoding, work / "two_tower" / "1")
    export_coarse(coarse, encoding, work / "hcn" / "1", corpus)
    export_ranker(ranker, encoding, work / "autoint" / "1", item_signatures=signatures)


def load(work, coarse_ranker=None, **config) -> Cascade:
    """The cascade of `export_models`."""
    items = work / "raw" / "examples" / "catalogue" / "items.parquet"
    config = CascadeConfig(**({"retrieve": 60, "coarse": 20, "top_k": 5} | config))
    cascade = Cascade.load(work / "two_tower", work / "autoint", items, config=config)
    cascade.coarse = coarse_ranker
    return cascade
