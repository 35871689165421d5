"""A run's manifest: written from what was pushed, read by `recommend --run`, moved with its checkout."""

import json
import shutil
from pathlib import Path

import pytest

from features.errors import InputError
from features.spec import load_spec
from pipeline.config import PipelineConfig
from pipeline.lineage import ComponentRun
from pipeline.run.outcomes import ModelOutcome
from pipeline.run.run_manifest import load_cascade, write_manifest

SPEC = load_spec(Path(__file__).parents[2] / "tfx_config" / "features_simulated.yaml")
MODELS = ("two_tower", "autoint", "aw_moe", "hcn")


def write(root: Path, pushed=MODELS, **changes):
    """Writes the manifest of a run that pushed these models."""
    values = {
        "name": "shop",
        "feature_spec": SPEC,
        "ingest": {"tables": {name: name for name in ("impressions", "clicks", "items", "users")}},
        "models": list(MODELS),
        "cascade": {"retrieve": 300, "coarse": 30, "top_k": 3, "ranker": "aw_moe"},
        "run_dir": root / "runs" / "shop",
        "serving_dir": root / "serving_models",
    }
    config = PipelineConfig.model_validate({**values, **changes})
    examples = root / "runs" / "shop" / "artifacts" / "LogIngest" / "examples" / "1"
    (examples / "catalogue").mkdir(parents=True, exist_ok=True)
    (examples / "catalogue" / "items.parquet").write_bytes(b"")
    components = [ComponentRun("LogIngest", "COMPLETE", 0, 1, {"examples": str(examples)})]
    outcomes = {
        name: ModelOutcome(
            None,
            str(root / "serving_models" / f"shop_{name}" / "17") if name in pushed else None,
            tables_dir=str(root / "serving_models" / f"shop_{name}_bse") if name == "aw_moe" else None,
        )
        for name in MODELS
    }
    return write_manifest(config, components, outcomes)


def expected(root: Path):
    serving = root / "serving_models"
    return {
        "two_tower": str(serving / "shop_two_tower" / "17"),
        "coarse": str(serving / "shop_hcn" / "17"),
        "ranker": str(serving / "shop_aw_moe" / "17"),
        "tables": str(serving / "shop_aw_moe_bse"),
        "items": str(root / "runs/shop/artifacts/LogIngest/examples/1/catalogue/items.parquet"),
        "retrieve": 300,
        "passed": 30,
        "top": 3,
    }


def test_a_cascade_is_read_back(tmp_path):
    manifest = write(tmp_path)
    assert set(manifest.models) == set(MODELS) and manifest.models["hcn"].stage == "coarse"
    assert load_cascade(tmp_path / "runs" / "shop") == expected(tmp_path)
    assert [path.name for path in (tmp_path / "runs" / "shop").iterdir() if path.is_file()] == ["manifest.json"]


def test_a_checkout_may_move_with_its_runs(tmp_path, monkeypatch):
    write(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert load_cascade(tmp_path / "there" / "runs" / "shop") == expected(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    found = load_cascade("runs/shop")
    assert found["ranker"] == "serving_models/shop_aw_moe/17" and found["items"].startswith("runs/shop/artifacts/")


def test_models_elsewhere_keep_their_scheme(tmp_path):
    write(tmp_path)
    path = tmp_path / "runs" / "shop" / "manifest.json"
    values = json.loads(path.read_text())
    values["cascade"]["ranker"] = "memory://bucket/aw_moe/17"
    path.write_text(json.dumps(values))
    assert load_cascade(path.parent)["ranker"] == "memory://bucket/aw_moe/17"


def test_without_the_coarse_ranker_there_are_two_stages(tmp_path):
    write(tmp_path, pushed=("two_tower", "aw_moe"))
    assert load_cascade(tmp_path / "runs" / "shop") == expected(tmp_path) | {"coarse": None}


@pytest.mark.parametrize(
    ("pushed", "changes", "named"),
    [
        (MODELS, {"cascade": None}, "two_tower, autoint, aw_moe, hcn"),
        (("two_tower", "autoint", "hcn"), {}, "two_tower, autoint, hcn"),
        (("aw_moe",), {}, "aw_moe"),
        ((), {}, "no model"),
    ],
)
def test_a_run_without_a_cascade_says_what_it_pushed(tmp_path, pushed, changes, named):
    assert write(tmp_path, pushed, **changes).cascade is None
    with pytest.raises(InputError, match=f"pushed no cascade but {named}") as error:
        load_cascade(tmp_path / "runs" / "shop")
    assert str(tmp_path / "runs" / "shop" / "manifest.json") in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"pipeline": "shop", "models": {}, "catalogue": null, "kascade": null}']
)
def test_something_else_is_no_manifest(tmp_path, text):
    with pytest.raises(InputError, match="manifest.json: no such file"):
        load_cascade(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match="is no manifest of this version of Clickmill"):
        load_cascade(tmp_path)
