"""A serving root with releases, for tests: folders as of SavedModels, a real store of bucket tables, a catalogue."""

from __future__ import annotations

from features import storage
from serving.release.manifest import Release, ReleasedModel, ReleasedTables
from serving.release.publish_release import publish_release
from serving.user_stores.builds import StoreBuild
from tests.builders.bse_example import build

MODELS = {"shop_two_tower": "retrieval", "shop_hcn": "coarse", "shop_autoint": "fine"}
CASCADE = {"retrieval": "shop_two_tower", "coarse": "shop_hcn", "fine": "shop_autoint"}


def push(root: str, name: str, version: int) -> ReleasedModel:
    """Writes a version of a model, as far as files go; returns what a release says of it."""
    folder = storage.join(root, name, str(version))
    for file in ("saved_model.pb", "variables/variables.index", "assets.extra/spec ü.json"):
        storage.write_text(storage.join(folder, file), f"{file} of {name} {version}")
    return ReleasedModel(name=name, stage=MODELS[name], version=version, path=f"{name}/{version}")


def put_items(root: str, text: str = "items") -> str:
    """Writes a catalogue, outside the serving root; returns where."""
    path = storage.join(f"{root}_run", "catalogue", "items.parquet")
    storage.write_text(path, text)
    return path


def put_profiles(root, version: str) -> str:
    """Publishes a version of users' profiles; returns how a release names it."""
    store = storage.join(root, "shop_profiles")
    with StoreBuild(store, version) as build:
        build.publish_with({"format": 1, "features": [], "columns": ["timestamp", "item_id"], "length": 5})
    return f"shop_profiles/{version}"


def release(root, version: int, *, tables: bool = True, items: str = "items", **facts) -> Release:
    """Pushes one version of every model, with its tables, and publishes the release that names them."""
    root = str(root)
    if tables:
        build(storage.join(root, "shop_autoint_bse"), f"v{version}", range(3))
        of_ranker = ReleasedTables(model="shop_autoint", version=f"v{version}", path="shop_autoint_bse")
        facts["tables"] = (of_ranker,)
    facts = {
        "cascade": {"retrieve": 300, "coarse": 30, "top_k": 3},
        "cascade_models": CASCADE,
        "pipeline": "shop",
        "allowed_by": "a test",
        "metrics": {"shop_autoint": {"auc": 0.7}},
        **facts,
    }
    models = [push(root, name, version) for name in MODELS]
    return publish_release(root, models, items=put_items(root, items), **facts)
