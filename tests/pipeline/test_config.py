"""The configuration: defaults, messages, and the DAG that it makes."""

from pathlib import Path

import pytest
import yaml

from features.spec import SpecError
from pipeline.config import load_config

PROFILES = sorted((Path(__file__).parents[2] / "tfx_config").glob("[!f]*.yaml"))
MINIMAL = {
    "name": "shop",
    "feature_spec": {
        "name": "shop",
        "features": [{"name": "city", "table": "users"}, {"name": "brand", "table": "items"}],
    },
    "ingest": {"tables": {"impressions": "logs/impressions"}},
}


def write(tmp_path, **changes):
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return path


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_loads(path):
    config = load_config(path)
    assert config.name == path.stem
    assert config.push_dir == Path(f"serving_models/{config.name}_autoint")


def test_paths_follow_from_the_name(tmp_path):
    config = load_config(write(tmp_path))
    assert config.run_dir == Path("runs/shop")
    assert config.metadata_path == Path("runs/shop/metadata.sqlite")


def test_the_feature_spec_is_found_beside_the_configuration(tmp_path):
    (tmp_path / "features.yaml").write_text(yaml.safe_dump(MINIMAL["feature_spec"]))
    assert load_config(write(tmp_path, feature_spec="features.yaml")).feature_spec["brand"].scope == "candidate"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"servin_dir": "x"}, r"`servin_dir` is not a known key. Did you mean `serving_dir`\?"),
        ({"ingest": {"tables": {"impresions": "x"}}}, r"`ingest.tables.impresions` .* `impressions`"),
        ({"evaluation": {"slices": {"features": ["brnad"]}}}, r"no feature `brnad`. Did you mean `brand`\?"),
        ({"evaluation": {"gates": {"pcoc": [1.2, 1.4]}}}, r"`pcoc` must be a range around 1"),
        ({"feature_spec": "absent.yaml"}, r"absent.yaml: cannot be read"),
        ({"name": "a b"}, r"`name`"),
    ],
)
def test_a_mistake_is_named(tmp_path, changes, message):
    with pytest.raises(SpecError, match=message):
        load_config(write(tmp_path, **changes))


def edges(pipeline):
    return {(up.id, node.id) for node in pipeline.components for up in node.upstream_nodes}


def test_the_dag_has_the_shape_of_the_design(tmp_path):
    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(load_config(write(tmp_path, run_dir=str(tmp_path / "run"))))
    ids = [node.id for node in pipeline.components]
    assert sorted(ids) == sorted(
        ["LogIngest", "LogStatistics", "SchemaGen", "ExampleValidator", "AnomalyGate", "Vocabulary", "FeatureEncoder"]
        + ["Trainer.autoint", "RankingEvaluator.autoint", "Pusher.autoint"]
    )
    found = edges(pipeline)
    # Nothing learns from the data before the gate has let it pass.
    assert {("ExampleValidator", "AnomalyGate"), ("AnomalyGate", "Vocabulary")} <= found
    assert {("FeatureEncoder", "Trainer.autoint"), ("Vocabulary", "Trainer.autoint")} <= found
    assert {("LogIngest", "RankingEvaluator.autoint"), ("RankingEvaluator.autoint", "Pusher.autoint")} <= found
    assert pipeline.enable_cache
    assert not (tmp_path / "run").exists(), "making the pipeline must not touch the disk"


def test_a_reviewed_schema_replaces_the_inferred_one(tmp_path):
    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(load_config(write(tmp_path, schema_path="schema.pbtxt")))
    ids = {node.id for node in pipeline.components}
    assert "ImportSchemaGen" in ids and "SchemaGen" not in ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"parameters": {"num_layer": 2}}}, r"model.parameters: `num_layer` .* `num_layers`"),
        ({"training": {"epoch": 2}}, r"training: `epoch` .* `epochs`"),
    ],
)
def test_mistakes_in_model_and_training_are_named_before_anything_runs(tmp_path, changes, message):
    from pipeline.pipeline import create_pipeline

    with pytest.raises(SpecError, match=message):
        create_pipeline(load_config(write(tmp_path, **changes)))
