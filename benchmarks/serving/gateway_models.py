"""A release of a whole cascade over 100,000 items, at weights by chance: what a request costs does not depend on them.

Leaves the raw log, the exports and `serving/`, a serving root with one release, under the work directory.
"""

from __future__ import annotations

from pathlib import Path

import clickmill as cm
from benchmarks.candidates.cascade_models import AUTOINT, EXCLUDED
from benchmarks.preparation import CONFIGS, encode_by_time

#: Enough for histories; every item is in the catalogue, shown or not.
SIMULATION = {"impressions": 120_000, "num_items": 100_000, "seed": 11}
SIZES = {"retrieve": 1000, "coarse": 200, "top_k": 10}
STAGES = {"two_tower": "retrieval", "hcn": "coarse", "autoint": "fine"}
_BATCH = 256


def serving_root(work: Path) -> Path:
    """Makes the release once; returns its serving root."""
    from evaluation.baselines import count_items
    from features.arrow import write_parquet
    from serving.release.manifest import ReleasedModel, ReleasedTables
    from serving.release.publish_release import publish_release
    from serving.release.registry import Releases
    from serving.user_stores.bse.table_job import build_behavior_tables

    root = work / "serving"
    if Releases(root).ids():
        return root
    raw = _export(work, root)
    models = [ReleasedModel(name=name, stage=stage, version=1, path=f"{name}/1") for name, stage in STAGES.items()]
    built = build_behavior_tables(root / "autoint" / "1", work / "raw" / "behaviors", root / "autoint_bse")
    write_parquet(count_items(raw, "click").most_clicked(1000), work / "popular_items.parquet")
    publish_release(
        root,
        models,
        items=raw / "catalogue" / "items.parquet",
        popular_items=work / "popular_items.parquet",
        tables=(ReleasedTables(model="autoint", version=built["version"], path="autoint_bse"),),
        cascade=SIZES,
        cascade_models={stage: name for name, stage in STAGES.items()},
    )
    return root


def _export(work: Path, root: Path) -> Path:
    """Exports the three models; returns the folder of the raw examples."""
    import tensorflow as tf

    from features.items.signatures import sign_items
    from models.inputs.config import InputConfig
    from models.inputs.input_pipeline import count_positives, make_dataset
    from models.inputs.item_corpus import ItemCorpus
    from serving.export.coarse import export_coarse
    from serving.export.two_tower import export_two_tower

    encoded, encoding_dir = encode_by_time(work, SIMULATION, cm.load_spec(CONFIGS / "features_simulated.yaml"))
    encoding = cm.FeatureEncoding.load(encoding_dir)
    corpus = ItemCorpus.load(encoded, encoding)
    tf.keras.utils.set_random_seed(1)

    def built(model, long_history=True):
        batches = make_dataset(
            encoded, "eval", encoding, InputConfig(batch_size=_BATCH), histories=True, long_history=long_history
        )
        model(next(iter(batches)))
        for weight in model.trainable_weights:
            weight.assign(tf.random.normal(weight.shape, stddev=0.3))  # At their first values all users are alike.
        return model

    counts = count_positives(encoded, "train", "click", len(corpus))
    config = cm.TwoTowerConfig.model_validate({"exclude_features": EXCLUDED})
    two_tower = built(cm.TwoTower(encoding, corpus, config, train_counts=counts), long_history=False)
    signatures = sign_items(corpus.item_ids, two_tower.embed_corpus(with_ids=not two_tower.reads_ids))
    coarse = built(cm.Hcn(encoding, _hcn_config()))
    ranker = built(cm.AutoInt(encoding, cm.AutoIntConfig.model_validate(AUTOINT), signatures))
    export_two_tower(two_tower, encoding, root / "two_tower" / "1")
    export_coarse(coarse, encoding, root / "hcn" / "1", corpus)
    cm.export_ranker(ranker, encoding, root / "autoint" / "1", item_signatures=signatures)
    return work / "raw" / "examples"


def _hcn_config():
    from models.hcn.config import HcnConfig

    return HcnConfig.model_validate({"exclude_features": EXCLUDED})
