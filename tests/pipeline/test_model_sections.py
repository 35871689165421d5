"""What the sections of models must name, and what is selected with them."""

import json

import pytest

from evaluation.cascade.config import CascadeSection
from features.config import SpecError, parse_model
from features.spec import load_spec
from models.sdim.config import reads_tables
from pipeline.config import PipelineConfig, select_models


def config(tmp_path, **models) -> PipelineConfig:
    spec = load_spec("tfx_config/features_simulated.yaml")
    values = {"name": "coarse", "feature_spec": spec, "models": models, "run_dir": tmp_path, "serving_dir": tmp_path}
    return parse_model({**values, "ingest": {"tables": {"impressions": "x"}}}, PipelineConfig, "profile")


AUTOINT = {"parameters": {"history": {"short": "mean", "long": "none"}}}


def test_it_is_trained_after_its_teacher_and_has_no_tables(tmp_path):
    whole = config(tmp_path, hcn={"teacher": "autoint"}, autoint=AUTOINT, two_tower={})
    assert whole.models.names == ("two_tower", "autoint", "hcn") and whole.models.rankers == ("autoint", "hcn")
    assert whole.models.fine_rankers == ("autoint",) and not reads_tables(whole.models["hcn"].parameters)
    assert select_models(whole, ["hcn"]).models.names == ("two_tower", "autoint", "hcn")
    without = config(tmp_path, hcn={}, autoint=AUTOINT, two_tower={})
    assert select_models(without, ["hcn"]).models.names == ("two_tower", "hcn")
    assert select_models(whole, ["autoint"]).models.names == ("autoint",)


def test_a_taught_retrieval_brings_what_it_learns_from_and_the_coarse_ranker_brings_it(tmp_path):
    taught = {"retrieval": {"kind": "two_tower", "teacher": "autoint"}, "autoint": AUTOINT, "two_tower": {}}
    whole = config(tmp_path, **taught, hcn={"list_training": {"epochs": 2}})
    assert whole.models.names == ("two_tower", "autoint", "retrieval", "hcn")
    assert whole.models.cascade_retrieval == "retrieval" and whole.models.rankers == ("autoint", "hcn")
    assert select_models(whole, ["hcn"]).models.names == ("two_tower", "autoint", "retrieval", "hcn")
    assert select_models(whole, ["retrieval"]).models.names == ("two_tower", "autoint", "retrieval")
    assert select_models(whole, ["two_tower"]).models.names == ("two_tower",)
    judged = whole.model_copy(update={"cascade": CascadeSection()})
    assert select_models(judged, ["retrieval", "autoint"]).cascade is not None
    assert select_models(judged, ["two_tower", "autoint"]).cascade is not None  # of the two-tower itself
    assert select_models(judged, ["retrieval"]).cascade is None


def test_teacher_lists_stand_between_the_fine_ranker_and_its_students(tmp_path):
    from pipeline.pipeline import create_pipeline

    models = {"retrieval": {"kind": "two_tower", "teacher": "autoint"}, "autoint": AUTOINT, "two_tower": {}}
    models["hcn"] = {"list_training": {"epochs": 2}}
    whole = config(tmp_path, **models).model_copy(update={"cascade": CascadeSection()})
    nodes = {node.id: node for node in create_pipeline(whole).components}
    upstream = {name: {each.id for each in node.upstream_nodes} for name, node in nodes.items()}
    assert {"Trainer.two_tower", "Trainer.autoint", "FeatureEncoder"} <= upstream["TeacherLists"]
    assert "TeacherLists" in upstream["Trainer.retrieval"] and "TeacherLists" in upstream["CoarseExamples"]
    assert "Trainer.retrieval" in upstream["CoarseExamples"] and "Trainer.two_tower" not in upstream["CoarseExamples"]
    assert "Trainer.retrieval" in upstream["CascadeEvaluator"]
    settings = json.loads(nodes["Trainer.hcn"].exec_properties["custom_config"])
    assert settings["list_training"]["epochs"] == 2


@pytest.mark.parametrize(
    "models, message",
    [
        ({"retrieval": {"kind": "two_tower", "teacher": "autoint"}, "autoint": AUTOINT}, "add `two_tower` to `models`"),
        (
            {"retrieval": {"kind": "two_tower", "teacher": "autoin"}, "autoint": AUTOINT, "two_tower": {}},
            "Did you mean `autoint`",
        ),
        ({"hcn": {"list_training": {}}, "two_tower": {}}, "reads the lists of a retrieval that is taught"),
        ({"hcn": {}}, "add `two_tower` to `models`"),
        ({"hcn": {"teacher": "autoin"}, "two_tower": {}, "autoint": AUTOINT}, "Did you mean `autoint`"),
        ({"hcn": {"teacher": "hcn"}, "two_tower": {}}, "no fine ranker `hcn`"),
        ({"hcn": {"parameters": {"distillation": 1.0}}, "two_tower": {}}, "name one as `models.hcn.teacher`"),
        ({"hcn": {"parameters": {"unshown_labels": "teacher"}}, "two_tower": {}}, "asks for a teacher"),
        ({"hcn": {"parameters": {"num_interest": 3}}, "two_tower": {}}, "Did you mean `num_interests`"),
        ({"two_tower": {"lists": {}}}, "`models.two_tower.lists`: the model has no `teacher` to score them"),
        (
            {"retrieval": {"kind": "two_tower", "teacher": "autoint", "signatures": {}}, "autoint": AUTOINT},
            "`models.retrieval.signatures`: the model learns from a teacher",
        ),
    ],
)
def test_it_says_what_is_missing(tmp_path, models, message):
    with pytest.raises(SpecError, match=message):
        config(tmp_path, **models)


def test_a_last_layer_is_the_trainer_s_where_it_is_set_and_changes_no_other_training(tmp_path):
    from pipeline.trainer import trainer_config

    whole = config(tmp_path, two_tower={}, autoint={}, aw_moe={"last_layer": {"draws": 8}})
    assert "last_layer" not in trainer_config(whole, "autoint")
    assert trainer_config(whole, "aw_moe")["last_layer"]["draws"] == 8
    with pytest.raises(SpecError, match="last_layer"):
        config(tmp_path, two_tower={}, autoint={"last_layer": {"draws": 0}})
