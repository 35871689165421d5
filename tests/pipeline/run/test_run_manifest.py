"""A run's manifest: written from what was pushed, read by `recommend --run`, moved with its checkout."""

import json
import shutil
from pathlib import Path

import pytest

from features import storage
from features.errors import InputError, NotFoundError
from features.spec import load_spec
from pipeline.config import PipelineConfig
from pipeline.run.lineage import ComponentRun
from pipeline.run.outcomes import ModelOutcome
from pipeline.run.run_manifest import load_release, write_manifest
from serving.release.cascade_options import cascade_options
from tests.serving.release.release_example import MODELS, release

SPEC = load_spec(Path(__file__).parents[3] / "tfx_config" / "features_simulated.yaml")


def write(root: Path, pushed=("two_tower", "hcn", "autoint"), released: str | None = "", **changes):
    """Writes the manifest of a run that pushed these models, and made the release of them unless another is named."""
    config = PipelineConfig.model_validate(
        {
            "name": "shop",
            "feature_spec": SPEC,
            "ingest": {"tables": {name: name for name in ("impressions", "clicks", "items", "users")}},
            "models": ["two_tower", "autoint", "hcn"],
            "run_dir": root / "runs" / "shop",
            "serving_dir": root / "serving_models",
            **changes,
        }
    )
    if released == "":
        released = release(root / "serving_models", 17).id
    components = [ComponentRun("ReleasePusher", "COMPLETE", 0, 1, properties={"release": {"release": released or ""}})]
    outcomes = {
        name: ModelOutcome(
            None,
            str(root / "serving_models" / f"shop_{name}" / "17") if name in pushed else None,
            tables_dir=str(root / "serving_models" / "shop_autoint_bse") if name == "autoint" else None,
        )
        for name in config.models.names
    }
    return write_manifest(config, components, outcomes)


def test_the_release_of_a_run_is_read_back(tmp_path):
    manifest = write(tmp_path)
    assert set(manifest.models) == {"two_tower", "autoint", "hcn"} and manifest.models["hcn"].stage == "coarse"
    assert manifest.models["autoint"].tables == "../../serving_models/shop_autoint_bse"
    releases, found = load_release(tmp_path / "runs" / "shop")
    assert releases.root == str(tmp_path / "serving_models") and found == releases.find("latest")
    assert {model.name for model in found.models} == set(MODELS)
    assert [path.name for path in (tmp_path / "runs" / "shop").iterdir() if path.is_file()] == ["manifest.json"]


def test_a_checkout_may_move_with_its_runs(tmp_path, monkeypatch):
    write(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    releases, found = load_release("runs/shop")
    assert cascade_options(releases, found)["ranker"] == "serving_models/shop_autoint/17"


def test_a_release_elsewhere_keeps_its_scheme(tmp_path):
    root = "memory://run-manifest-tests"
    try:
        made = release(root, 3, tables=False)
        manifest = write(tmp_path, released=made.id, serving_dir=root)
        assert manifest.release == f"{root}/releases/{made.id}.json"
        releases, found = load_release(tmp_path / "runs" / "shop")
        assert found == made and releases.root == root
    finally:
        storage.delete(root)
        storage.delete(f"{root}_run")


@pytest.mark.parametrize(("pushed", "named"), [(("two_tower", "hcn"), "two_tower, hcn"), ((), "no model")])
def test_a_run_without_a_release_says_what_it_pushed(tmp_path, pushed, named):
    assert write(tmp_path, pushed, released=None).release is None
    with pytest.raises(InputError, match=f"made no release: it pushed {named}") as error:
        load_release(tmp_path / "runs" / "shop")
    assert str(tmp_path / "runs" / "shop" / "manifest.json") in str(error.value)


def test_a_release_that_was_pruned_costs_a_later_run_nothing(tmp_path):
    made = release(tmp_path / "serving_models", 17)
    path = tmp_path / "serving_models" / "releases" / f"{made.id}.json"
    write(tmp_path, released=made.id)
    path.unlink()
    with pytest.raises(NotFoundError, match=f"has no release {made.id}"):
        load_release(tmp_path / "runs" / "shop")
    assert write(tmp_path, released=made.id).release is None


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"pipeline": "shop", "models": {}, "catalogue": None})])
def test_something_else_is_no_manifest(tmp_path, text):
    with pytest.raises(InputError, match="manifest.json: no such file"):
        load_release(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="is no manifest of this version of Clickmill"):
        load_release(tmp_path)
