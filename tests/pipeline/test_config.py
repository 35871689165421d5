"""The configuration: defaults, messages, and the DAG that it makes."""

from pathlib import Path

import pytest
import yaml

from features.config import SpecError
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
    assert "autoint" in config.models.names
    assert config.push_dir("autoint") == f"serving_models/{config.name}_autoint"
    assert config.tables_dir("autoint") == f"serving_models/{config.name}_autoint_bse"


def test_paths_follow_from_the_name(tmp_path):
    config = load_config(write(tmp_path))
    assert config.run_dir == "runs/shop"
    assert config.metadata_path == "runs/shop/metadata.sqlite"


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
        ({"model": {"name": "autoint"}}, r"`model` is not a known key. Did you mean `models`\?"),
        (
            {"models": {"autont": {}}},
            r"no kind of model is called `autont`. Did you mean `autoint`\?",
        ),
        ({"models": {}}, r"name one model at least, of the kinds two_tower, autoint"),
        ({"models": ["two_tower"]}, r"`models.two_tower` reads short histories: name a `history`"),
        ({"models": {"autoint": {"training": 3}}}, r"`models.autoint.training`"),
        ({"feature_spec": "absent.yaml"}, r"absent.yaml: cannot be read"),
        ({"name": "a b"}, r"`name`"),
    ],
)
def test_a_mistake_is_named(tmp_path, changes, message):
    with pytest.raises(SpecError, match=message):
        load_config(write(tmp_path, **changes))


def edges(pipeline):
    return {(up.id, node.id) for node in pipeline.components for up in node.upstream_nodes}


DATA_NODES = [
    "LogIngest", "LogStatistics", "SchemaGen", "ExampleValidator", "AnomalyGate", "Vocabulary", "FeatureEncoder"
]  # fmt: skip
RANKER_NODES = ["Trainer.autoint", "RankingEvaluator.autoint", "Pusher.autoint"]
RETRIEVAL_NODES = ["Trainer.two_tower", "RetrievalEvaluator.two_tower", "Pusher.two_tower", "BehaviorSignatures"]
WITH_HISTORY = {
    "name": "shop",
    "features": [{"name": "city", "table": "users"}, {"name": "item_id", "table": "items"}],
    "history": {"features": ["item_id"]},
}
CASCADE = {
    "feature_spec": WITH_HISTORY,
    "models": {
        "autoint": {"parameters": {"history": {"long": "sdim"}}, "tables": {"precision": "fp16"}},
        "two_tower": None,
    },
}


def ids(pipeline):
    return sorted(node.id for node in pipeline.components)


def dag(tmp_path, selected=None, **changes):
    from pipeline.config import select_models
    from pipeline.pipeline import create_pipeline

    config = load_config(write(tmp_path, run_dir=str(tmp_path / "run"), **changes))
    return create_pipeline(config if selected is None else select_models(config, selected))


def test_the_dag_of_a_ranker_alone(tmp_path):
    pipeline = dag(tmp_path)
    assert ids(pipeline) == sorted(DATA_NODES + RANKER_NODES)
    found = edges(pipeline)
    # Nothing learns from the data before the gate has let it pass.
    assert {("ExampleValidator", "AnomalyGate"), ("AnomalyGate", "Vocabulary")} <= found
    assert {("FeatureEncoder", "Trainer.autoint"), ("Vocabulary", "Trainer.autoint")} <= found
    assert {("LogIngest", "RankingEvaluator.autoint"), ("RankingEvaluator.autoint", "Pusher.autoint")} <= found
    assert pipeline.enable_cache
    assert not (tmp_path / "run").exists(), "making the pipeline must not touch the disk"


def test_the_dag_of_the_cascade_has_the_shape_of_the_design(tmp_path):
    pipeline = dag(tmp_path, **CASCADE)
    nodes = {node.id: node for node in pipeline.components}
    assert ids(pipeline) == sorted([*DATA_NODES, *RETRIEVAL_NODES, *RANKER_NODES, "BehaviorTables.autoint"])
    found = edges(pipeline)
    # Signatures come from the two-tower, blessed or not, and reach the ranker as its base model.
    assert ("Trainer.two_tower", "BehaviorSignatures") in found and ("BehaviorSignatures", "Trainer.autoint") in found
    assert ("Pusher.two_tower", "BehaviorSignatures") not in found
    # Tables are those of the ranker that was pushed, of the raw behaviours.
    assert {("Pusher.autoint", "BehaviorTables.autoint"), ("LogIngest", "BehaviorTables.autoint")} <= found
    assert nodes["BehaviorTables.autoint"].exec_properties["precision"] == "fp16"
    assert not (tmp_path / "run").exists(), "making the pipeline must not touch the disk"


@pytest.mark.parametrize(
    ("chosen", "nodes"),
    [
        (["two_tower"], RETRIEVAL_NODES),
        # The ranker rests on the signatures of the two-tower.
        (["autoint"], [*RETRIEVAL_NODES, *RANKER_NODES, "BehaviorTables.autoint"]),
    ],
)
def test_models_can_be_selected(tmp_path, chosen, nodes):
    assert ids(dag(tmp_path, chosen, **CASCADE)) == sorted(DATA_NODES + nodes)


def test_a_ranker_without_long_history_needs_no_two_tower(tmp_path):
    models = {"two_tower": {}, "autoint": {"parameters": {"history": {"short": "din", "long": "none"}}}}
    selected = dag(tmp_path, ["autoint"], feature_spec=WITH_HISTORY, models=models)
    assert ids(selected) == sorted(DATA_NODES + RANKER_NODES)
    by_itself = {"autoint": {"parameters": {"history": {"signature_source": "end_to_end"}}}}
    pipeline = dag(tmp_path, feature_spec=WITH_HISTORY, models=by_itself)
    assert ids(pipeline) == sorted([*DATA_NODES, *RANKER_NODES, "BehaviorTables.autoint"])


def test_every_ranker_has_nodes_of_its_own(tmp_path):
    parameters = {"mode": "search", "query_features": ["city"]}
    models = {"two_tower": {}, "autoint": {}, "aw_moe": {"parameters": parameters}}
    pipeline = dag(tmp_path, feature_spec=WITH_HISTORY, models=models)
    own = [node.replace("autoint", "aw_moe") for node in [*RANKER_NODES, "BehaviorTables.autoint"]]
    assert ids(pipeline) == sorted([*DATA_NODES, *RETRIEVAL_NODES, *RANKER_NODES, *own])
    selected = dag(tmp_path, ["aw_moe"], feature_spec=WITH_HISTORY, models=models)
    assert ids(selected) == sorted([*DATA_NODES, *RETRIEVAL_NODES, *own])
    with pytest.raises(SpecError, match=r"`models.aw_moe.parameters`: .*`query_features` are the gate's context"):
        dag(tmp_path, feature_spec=WITH_HISTORY, models={"aw_moe": {"parameters": {"mode": "search"}}})


def test_the_cascade_is_judged_after_its_models(tmp_path):
    section = {"retrieve": 50, "coarse": 20, "top_k": 5, "sample_requests": 9}
    pipeline = dag(tmp_path, cascade=section, **CASCADE)
    nodes = {node.id: node for node in pipeline.components}
    found = edges(pipeline)
    assert {(up, "CascadeEvaluator") for up in ("LogIngest", "Trainer.two_tower", "Trainer.autoint")} <= found
    properties = nodes["CascadeEvaluator"].exec_properties
    assert properties["ranker_name"] == "autoint" and '"sample_requests":9' in properties["cascade_config"]
    assert "coarse" not in nodes["CascadeEvaluator"].inputs
    three = {**CASCADE, "models": {**CASCADE["models"], "hcn": {}}}
    with_coarse = dag(tmp_path, cascade=section, **three)
    assert ("Trainer.hcn", "CascadeEvaluator") in edges(with_coarse)
    # Where not all of its models are asked for by name, there is no cascade to judge.
    assert "CascadeEvaluator" not in ids(dag(tmp_path, ["autoint"], cascade=section, **CASCADE))
    assert "CascadeEvaluator" in ids(dag(tmp_path, ["autoint", "two_tower"], cascade=section, **CASCADE))


@pytest.mark.parametrize(
    ("section", "models", "message"),
    [
        ({}, ["autoint"], r"`cascade` needs a two-tower and a fine ranker"),
        ({}, ["two_tower"], r"`cascade` needs a two-tower and a fine ranker"),
        ({"ranker": "autont"}, ["autoint", "two_tower"], r"no fine ranker `autont`. Did you mean `autoint`\?"),
        ({"coarse": 2000}, ["autoint", "two_tower"], r"a cascade narrows.*`coarse`=2000, `retrieve`=1000"),
        ({"retreive": 2}, ["autoint", "two_tower"], r"`cascade.retreive` .* `retrieve`"),
    ],
)
def test_mistakes_in_the_cascade_are_named(tmp_path, section, models, message):
    with pytest.raises(SpecError, match=message):
        load_config(write(tmp_path, feature_spec=WITH_HISTORY, models=models, cascade=section))


def test_what_a_selection_lacks_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"model `autont` is not in the profile's `models`. Did you mean `autoint`\?"):
        dag(tmp_path, ["autont"])
    alone = {"autoint": CASCADE["models"]["autoint"]}
    with pytest.raises(SpecError, match=r"`models.autoint` reads item signatures.*add `two_tower` to `models`"):
        dag(tmp_path, feature_spec=WITH_HISTORY, models=alone)
    with pytest.raises(SpecError, match=r"`models.autoint.parameters.history` needs a `history` in the feature spec"):
        dag(tmp_path, models=alone)


def test_a_list_of_names_switches_models_on(tmp_path):
    config = load_config(write(tmp_path, feature_spec=WITH_HISTORY, models=["autoint", "two_tower"]))
    assert config.models.names == ("two_tower", "autoint")
    assert config.models["two_tower"].signatures.simhash.num_bits == 48


def test_a_reviewed_schema_replaces_the_inferred_one(tmp_path):
    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(load_config(write(tmp_path, schema_path="schema.pbtxt")))
    ids = {node.id for node in pipeline.components}
    assert "ImportSchemaGen" in ids and "SchemaGen" not in ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"num_layer": 2}}, r"models.autoint.parameters: `num_layer` .* `num_layers`"),
        ({"training": {"epoch": 2}}, r"models.autoint.training: `epoch` .* `epochs`"),
    ],
)
def test_mistakes_in_model_and_training_are_named_before_anything_runs(tmp_path, changes, message):
    from pipeline.pipeline import create_pipeline

    with pytest.raises(SpecError, match=message):
        create_pipeline(load_config(write(tmp_path, models={"autoint": changes})))
