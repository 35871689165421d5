"""The models of the cascade benchmark: simulated logs over 100,000 items, trained once and kept.

Leaves `raw/`, `encoded/`, `encoding/` and the exports `two_tower/` (whose item embeddings are signed for AutoInt's long
histories), `autoint/`, `retrieval/` (the cascade's two-tower) and `hcn/` under the work directory.
"""

from __future__ import annotations

import json
from pathlib import Path

import clickmill as cm
from benchmarks.preparation import CONFIGS, encode_by_time

#: What the benchmarks of the cascade share.
WORK = Path("data/benchmarks/cascade_models")
OPTIONS = {"work": (WORK, "folder of the models")}

#: An item is shown six times on average and clicked every other: most are known by their features alone.
SIMULATION = {"impressions": 600_000, "num_items": 100_000, "seed": 11}
TWO_TOWER = {"epochs": 6, "patience": 2, "input": {"batch_size": 512}}
TWO_TOWER["optimizer"] = {"name": "adagrad", "learning_rate": 0.03}
#: Item ids and title tokens are left out as in `make run`: in two weeks they are memorised, not learnt.
EXCLUDED = ["item_id", "title"]
AUTOINT = {
    "variant": "reference",
    "num_layers": 2,
    "head_dim": 16,
    "exclude_features": EXCLUDED,
    "history": {"short": "target_attention", "long": "sdim"},
}
AUTOINT_TRAINING = {"epochs": 5, "patience": 2, "optimizer": {"learning_rate": 2e-3, "schedule": "cosine"}}

#: The fine ranker teaches the retrieval and HCN its order, by lists of the whole catalogue.
LISTS = {"requests": 4800, "group": 48, "uniform": 1000, "retrieved": 1000, "retrieve": 3000}
RETRIEVAL = {"log_q": "none", "exclude_features": EXCLUDED}
RETRIEVAL_TRAINING = {"epochs": 40, "patience": 10, "optimizer": {"learning_rate": 2e-3, "schedule": "cosine"}}

#: HCN learns from clicks and from the teacher's logits of impressions and of what is retrieved, then from the lists.
HCN = {"exclude_features": EXCLUDED, "distillation": 1.0, "unshown_labels": "teacher"}
CANDIDATES = {"retrieve": 1000, "sample": 8}
#: Of the four shards of train: half of the requests are enough.
HCN_SHARDS = 2
HCN_TRAINING = {"epochs": 2, "patience": 2, "optimizer": {"learning_rate": 2e-3, "schedule": "cosine"}}
HCN_LIST_TRAINING = {"epochs": 40, "patience": 10, "optimizer": {"learning_rate": 2e-3, "schedule": "cosine"}}


def prepare(work: Path) -> tuple[Path, Path, Path]:
    """Simulates, ingests and encodes the log once. Returns the raw examples, the encoded ones and the encoding."""
    encoded, encoding = encode_by_time(work, SIMULATION, cm.load_spec(CONFIGS / "features_simulated.yaml"))
    return work / "raw" / "examples", encoded, encoding


def two_tower(work: Path) -> Path:
    """Trains and exports the two-tower once."""
    from models.training.retrieval_stage import train_two_tower
    from serving.export.two_tower import export_two_tower

    if not (work / "two_tower").exists():
        _, encoded, encoding_dir = prepare(work)
        encoding, training = cm.FeatureEncoding.load(encoding_dir), cm.TrainingConfig.model_validate(TWO_TOWER)
        model, _ = train_two_tower(encoding, encoded, cm.TwoTowerConfig(), training, work / "training" / "two_tower")
        export_two_tower(model, encoding, work / "two_tower")
    return work / "two_tower"


def autoint(work: Path) -> Path:
    """Trains and exports AutoInt once; its long histories are signed by the two-tower's item embeddings."""
    from features.items.signatures import sign_items
    from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings

    if not (work / "autoint").exists():
        signatures = sign_items(*read_item_embeddings(two_tower(work) / ITEM_EMBEDDINGS_FILE))
        _, encoded, encoding_dir = prepare(work)
        encoding, config = cm.FeatureEncoding.load(encoding_dir), cm.AutoIntConfig.model_validate(AUTOINT)
        model, _ = cm.train(
            lambda: cm.AutoInt(encoding, config, signatures), encoding, encoded, cm.TrainingConfig(**AUTOINT_TRAINING),
            work / "training" / "autoint", fingerprint=json.dumps([SIMULATION, AUTOINT, AUTOINT_TRAINING]),
            histories=True, long_history=True,
        )  # fmt: skip
        cm.export_ranker(model, encoding, work / "autoint", item_signatures=signatures)
    return work / "autoint"


def lists(work: Path) -> Path:
    """Has AutoInt score the lists once."""
    from features.examples.teacher_list_files import TeacherListsConfig
    from serving.offline.teacher_scoring import make_teacher_lists

    done = work / "lists.done"
    if not done.exists():
        raw, encoded, _ = prepare(work)
        config = TeacherListsConfig.model_validate(LISTS)
        found, teacher = two_tower(work), autoint(work)
        make_teacher_lists(raw, work / "raw" / "behaviors", encoded, found, teacher, work / "lists", config)
        done.touch()
    return work / "lists"


def retrieval(work: Path) -> Path:
    """Trains and exports the cascade's two-tower once, taught by AutoInt."""
    from models.inputs.item_corpus import ItemCorpus
    from models.training.list_distillation import train_by_lists
    from serving.export.two_tower import export_two_tower

    if not (work / "retrieval").exists():
        made, encoding = lists(work), cm.FeatureEncoding.load(prepare(work)[2])
        config, corpus = cm.TwoTowerConfig.model_validate(RETRIEVAL), ItemCorpus.load(made, encoding)
        training, directory = cm.TrainingConfig(**RETRIEVAL_TRAINING), work / "training" / "retrieval"
        model, _ = train_by_lists(lambda: cm.TwoTower(encoding, corpus, config), encoding, made, training, directory)
        export_two_tower(model, encoding, work / "retrieval")
    return work / "retrieval"


def hcn(work: Path) -> Path:
    """Trains and exports HCN once, taught by AutoInt."""
    from features.examples.config import CandidateSetConfig
    from models.inputs.item_corpus import ItemCorpus
    from models.training.coarse_stage import train_hcn
    from serving.export.coarse import export_coarse
    from serving.offline.candidate_examples import make_coarse_examples

    if not (work / "hcn").exists():
        raw, encoded, encoding_dir = prepare(work)
        encoding, examples, done = cm.FeatureEncoding.load(encoding_dir), work / "coarse", work / "coarse.done"
        if not done.exists():
            candidates = CandidateSetConfig.model_validate(CANDIDATES)
            found, teacher, part = retrieval(work), autoint(work), _first_shards(encoded, work / "encoded_part")
            make_coarse_examples(raw, work / "raw" / "behaviors", part, found, examples, candidates, teacher=teacher)
            done.touch()
        model, _ = train_hcn(
            encoding, examples, cm.HcnConfig(**HCN), cm.TrainingConfig(**HCN_TRAINING), work / "training" / "hcn",
            lists_dir=lists(work), list_training=cm.TrainingConfig(**HCN_LIST_TRAINING),
        )  # fmt: skip
        export_coarse(model, encoding, work / "hcn", ItemCorpus.load(examples, encoding))
    return work / "hcn"


def _first_shards(encoded: Path, part: Path) -> Path:
    """The encoded examples with the first `HCN_SHARDS` shards of train alone, as links."""
    for source in sorted(path for path in encoded.rglob("*") if path.is_file()):
        target = part / source.relative_to(encoded)
        if source.parent.name == "Split-train" and int(source.name.split("-")[1]) >= HCN_SHARDS:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.hardlink_to(source)
    return part


def run(options) -> None:
    """Makes all models; what is there already stays."""
    for made in (two_tower, autoint, retrieval, hcn):
        print(made(options.work), flush=True)


def figures(found: dict) -> list[tuple[str, str]]:
    return []
