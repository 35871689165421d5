"""The configuration: defaults, messages, and the DAG that it makes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from features.config import SpecError
from pipeline.config import load_config

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "tfx_config").glob("[!f]*.yaml"))
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
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}, sort_keys=False))
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
        (
            {"ingest": {"tables": {"impressions": "x"}, "split": {"eval_fraction": 0}}},
            r"`ingest.split` makes no split `eval`",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path, changes, message):
    with pytest.raises(SpecError, match=message):
        load_config(write(tmp_path, **changes))


def edges(pipeline):
    return {(up.id, node.id) for node in pipeline.components for up in node.upstream_nodes}


COMMON_NODES = [
    "LogIngest", "LogStatistics", "SchemaGen", "ExampleValidator", "AnomalyGate", "Vocabulary", "FeatureEncoder",
    "UserProfiles", "ReleasePusher",
]  # fmt: skip
RANKER_NODES = [
    "Trainer.autoint",
    "RankingEvaluator.autoint",
    "ServingValidator.autoint",
    "Pusher.autoint",
    "ModelAnchor.autoint",
]
RETRIEVAL_NODES = [
    "Trainer.two_tower",
    "RetrievalEvaluator.two_tower",
    "ServingValidator.two_tower",
    "Pusher.two_tower",
    "ModelAnchor.two_tower",
    "BehaviorSignatures",
]
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
    assert ids(pipeline) == sorted(COMMON_NODES + RANKER_NODES)
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
    assert ids(pipeline) == sorted([*COMMON_NODES, *RETRIEVAL_NODES, *RANKER_NODES, "BehaviorTables.autoint"])
    found = edges(pipeline)
    # Signatures come from the two-tower, blessed or not, and reach the ranker as its base model.
    assert ("Trainer.two_tower", "BehaviorSignatures") in found and ("BehaviorSignatures", "Trainer.autoint") in found
    assert ("Pusher.two_tower", "BehaviorSignatures") not in found
    # Tables are those of the blessed ranker, of the raw behaviours, and there before it is pushed.
    assert {("RankingEvaluator.autoint", "BehaviorTables.autoint"), ("LogIngest", "BehaviorTables.autoint")} <= found
    assert ("BehaviorTables.autoint", "Pusher.autoint") in found
    assert ("Pusher.autoint", "BehaviorTables.autoint") not in found
    # So are profiles, which no model has a part in.
    assert {("LogIngest", "UserProfiles"), ("AnomalyGate", "UserProfiles"), ("UserProfiles", "Pusher.autoint")} <= found
    assert ("UserProfiles", "ReleasePusher") in found
    assert nodes["UserProfiles"].exec_properties["length"] == 50
    # A release names all of it, and comes last.
    assert {(up, "ReleasePusher") for up in ("Pusher.two_tower", "Pusher.autoint", "BehaviorTables.autoint")} <= found
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
    assert ids(dag(tmp_path, chosen, **CASCADE)) == sorted(COMMON_NODES + nodes)


def test_a_ranker_without_long_history_needs_no_two_tower(tmp_path):
    models = {"two_tower": {}, "autoint": {"parameters": {"history": {"short": "din", "long": "none"}}}}
    selected = dag(tmp_path, ["autoint"], feature_spec=WITH_HISTORY, models=models)
    assert ids(selected) == sorted(COMMON_NODES + RANKER_NODES)
    by_itself = {"autoint": {"parameters": {"history": {"signature_source": "end_to_end"}}}}
    pipeline = dag(tmp_path, feature_spec=WITH_HISTORY, models=by_itself)
    assert ids(pipeline) == sorted([*COMMON_NODES, *RANKER_NODES, "BehaviorTables.autoint"])


def test_every_ranker_has_nodes_of_its_own(tmp_path):
    parameters = {"mode": "search", "query_features": ["city"]}
    models = {"two_tower": {}, "autoint": {}, "aw_moe": {"parameters": parameters}}
    pipeline = dag(tmp_path, feature_spec=WITH_HISTORY, models=models)
    own = [node.replace("autoint", "aw_moe") for node in [*RANKER_NODES, "BehaviorTables.autoint"]]
    assert ids(pipeline) == sorted([*COMMON_NODES, *RETRIEVAL_NODES, *RANKER_NODES, *own])
    selected = dag(tmp_path, ["aw_moe"], feature_spec=WITH_HISTORY, models=models)
    assert ids(selected) == sorted([*COMMON_NODES, *RETRIEVAL_NODES, *own])
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


def test_profiles_hold_what_the_models_take_as_behaviors(tmp_path):
    """A coarse ranker reads the long history itself; for a ranker with a table, the table stands for it."""
    models = {"two_tower": {}, "autoint": {}, "hcn": {}}
    for chosen in (None, ["autoint"]):
        nodes = {node.id: node for node in dag(tmp_path, chosen, feature_spec=WITH_HISTORY, models=models).components}
        assert nodes["UserProfiles"].exec_properties["length"] == 1050, "of the whole profile, whatever is run"
    target = {"autoint": {"parameters": {"history": {"long": "target_attention"}}}}
    nodes = {node.id: node for node in dag(tmp_path, feature_spec=WITH_HISTORY, models=target).components}
    assert nodes["UserProfiles"].exec_properties["length"] == 1050


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
    ("models", "message"),
    [
        ({"autoint": {"parameters": {"num_layer": 2}}}, r"`models.autoint.parameters.num_layer` .* `num_layers`"),
        ({"autoint": {"parameters": {"num_layers": 0}}}, r"`models.autoint.parameters.num_layers`: .*Received: 0"),
        ({"autoint": {"training": {"epoch": 2}}}, r"`models.autoint.training.epoch` .* `epochs`"),
        (
            {"autoint": {"training": {"optimizer": {"learning_rat": 1}}}},
            r"`models.autoint.training.optimizer.learning_rat` .* `learning_rate`",
        ),
        ({"hcn": {"list_training": {"epoch": 2}}}, r"`models.hcn.list_training.epoch` .* `epochs`"),
        ({"autoint": {"parametres": {}}}, r"`models.autoint.parametres` .* `parameters`"),
        ({"autoint": 3}, r"`models.autoint`: .*Received: 3"),
        ({"autoint_wide": {}}, r"no kind of model is called `autoint_wide`. Did you mean `autoint`\?"),
        ({"wide": {"kind": "autonit"}}, r"`models.wide`: .*called `autonit`. Did you mean `autoint`\?"),
        (
            {"wide": {"kind": "no_such_shop:DCN"}},
            r"`no_such_shop:DCN` cannot be imported: No module named 'no_such_shop'",
        ),
        ({"wide": {"kind": "features.spec:DCN"}}, r"`features.spec:DCN` cannot be imported: .*no attribute 'DCN'"),
        ({"wide": {"kind": "features.spec:Feature"}}, r"`features.spec:Feature.Config` cannot be imported"),
        ({"retrieval": {"teacher": "autoint"}}, r"`retrieval` is a stage: .*add `kind: two_tower`"),
        ({"Auto-Int": {"kind": "autoint"}}, r"small letters, digits and `_`, a letter first. Received: 'Auto-Int'"),
        (["autoint", "autoint"], r"two models may not have one name. Received `autoint` twice"),
    ],
)
def test_mistakes_in_models_are_named_with_file_and_key(tmp_path, models, message):
    with pytest.raises(SpecError, match=r"pipeline.yaml: .*" + message):
        load_config(write(tmp_path, models=models))


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text() + "models:\n  autoint: {}\n  two_tower: {}\n  autoint: {}\n")
    with pytest.raises(SpecError, match=r"the key `autoint` stands twice(.|\n)*line 1"):
        load_config(path)


def test_a_typo_is_answered_before_anything_heavy_is_imported(tmp_path):
    """In a process of its own: what the configuration imports, it imports for every command."""
    path = write(tmp_path, models={"autoint": {"parameters": {"num_layer": 2}}})
    code = (
        "import sys\nfrom pipeline.config import load_config\n"
        "try:\n    load_config(sys.argv[1])\nexcept ValueError as error:\n    print(error)\n"
        "heavy = {'tensorflow', 'keras', 'tf_keras', 'tfx', 'apache_beam', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT)
    told, heavy = done.stdout.splitlines()
    assert told == f"{path}: `models.autoint.parameters.num_layer` is not a known key. Did you mean `num_layers`?"
    assert heavy == "[]"


def test_two_of_a_kind_stand_side_by_side(tmp_path):
    """Each is trained, judged, pushed and given tables by itself; names say which is which."""
    history = {"long": "sdim"}
    models = {
        "two_tower": {},
        "autoint": {"parameters": {"history": history}},
        "autoint_wide": {"kind": "autoint", "parameters": {"num_layers": 5, "history": history}},
        "retrieval": {"kind": "two_tower", "teacher": "autoint"},
        "by_wide": {"kind": "two_tower", "teacher": "autoint_wide", "evaluation": {"gates": {"min_takes": 7}}},
        "hcn": {"teacher": "autoint", "list_training": {}},
        "hcn_small": {"kind": "hcn", "parameters": {"dim": 8}},
    }
    config = load_config(write(tmp_path, feature_spec=WITH_HISTORY, models=models))
    names = config.models.names
    assert sorted(names) == sorted(models)
    for name in names:
        assert set(config.models[name].rests_on(config.models)) <= set(names[: names.index(name)]), name
    titles = ["SSL two-tower", "AutoInt", "AutoInt (autoint_wide)", "Distilled two-tower"]
    titles += ["Distilled two-tower (by_wide)", "HCN", "HCN (hcn_small)"]
    assert [config.models.title(name) for name in models] == titles
    assert config.push_dir("autoint_wide") != config.push_dir("autoint")
    assert config.tables_dir("autoint_wide") != config.tables_dir("autoint")
    # A retrieval that is taught is not asked to beat what is popular.
    gates = config.evaluation_of("by_wide").gates
    assert (gates.min_takes, gates.min_lift, config.evaluation_of("two_tower").gates.min_lift) == (7, None, 1.0)

    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(config)
    nodes = {node.id: node for node in pipeline.components}
    assert len(nodes) == len(pipeline.components)
    upstream = {name: {each.id for each in node.upstream_nodes} for name, node in nodes.items()}
    assert "Trainer.autoint" in upstream["TeacherLists"] and "Trainer.autoint_wide" in upstream["TeacherLists.by_wide"]
    assert "TeacherLists.by_wide" in upstream["Trainer.by_wide"] and "TeacherLists" in upstream["CoarseExamples"]
    assert "CoarseExamples" in upstream["Trainer.hcn"] and "CoarseExamples.hcn_small" in upstream["Trainer.hcn_small"]
    assert "TeacherLists" not in upstream["CoarseExamples.hcn_small"]
    stores = [nodes[f"BehaviorTables.{name}"].exec_properties["store_dir"] for name in ("autoint", "autoint_wide")]
    assert len(set(stores)) == 2
    settings = json.loads(nodes["Trainer.autoint_wide"].exec_properties["custom_config"])
    assert (settings["kind"], settings["parameters"]["num_layers"]) == ("autoint", 5)


def test_addresses_stay_as_they_were_given(tmp_path):
    changes = {"run_dir": "gs://bucket/run", "serving_dir": "s3://models/live/"}
    config = load_config(write(tmp_path, **changes, simulate={"out": "gs://bucket/log"}))
    assert (config.run_dir, config.simulate.out) == ("gs://bucket/run", "gs://bucket/log")
    assert config.pipeline_root == "gs://bucket/run/artifacts" and config.report_dir == "gs://bucket/run/report"
    assert config.push_dir("autoint") == "s3://models/live/shop_autoint"

    from pipeline.pipeline import create_pipeline
    from pipeline.trainer import trainer_config

    pipeline = create_pipeline(config)
    assert pipeline.pipeline_info.pipeline_root == "gs://bucket/run/artifacts"
    nodes = {node.id: node for node in pipeline.components}
    assert nodes["RankingEvaluator.autoint"].exec_properties["serving_dir"] == "s3://models/live/shop_autoint"
    assert '"s3://models/live/shop_autoint"' in nodes["Pusher.autoint"].exec_properties["push_destination"]
    assert trainer_config(config, "autoint")["work_dir"] == "gs://bucket/run/training"


def test_a_model_s_folder_is_not_one_that_lies_beside_another_s(tmp_path):
    with pytest.raises(SpecError, match="`models.autoint_anchor`: its folder would be one that `autoint` has"):
        load_config(write(tmp_path, models={"autoint": {}, "autoint_anchor": {"kind": "autoint"}}))


def test_a_retrieval_that_is_taught_is_judged_with_its_teacher_and_the_anchor_after_the_push(tmp_path):
    from pipeline.pipeline import create_pipeline

    models = {"two_tower": {}, "autoint": {}, "retrieval": {"kind": "two_tower", "teacher": "autoint"}}
    spec = {**MINIMAL["feature_spec"], "history": {"features": ["brand"]}}
    config = load_config(write(tmp_path, models=models, feature_spec=spec))
    nodes = {node.id: node for node in create_pipeline(config).components}
    taught, untaught = (set(nodes[f"RetrievalEvaluator.{name}"].inputs) for name in ("retrieval", "two_tower"))
    assert taught - untaught == {"teacher", "two_tower"}
    for name in models:
        anchor = nodes[f"ModelAnchor.{name}"]
        assert [node.id for node in anchor.upstream_nodes if node.id.startswith("Pusher")] == [f"Pusher.{name}"]
        assert anchor.exec_properties["serving_dir"].endswith(f"shop_{name}")
