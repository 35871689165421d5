"""What the configuration of the coarse ranker must name, and what is selected with it."""

import pytest

from features.spec import SpecError, load_spec
from pipeline.config import PipelineConfig
from pipeline.model_registry import check_models, reads_tables, select_models


def config(tmp_path, **models) -> PipelineConfig:
    spec = load_spec("tfx_config/features_simulated.yaml")
    values = {"name": "coarse", "feature_spec": spec, "models": models, "run_dir": tmp_path, "serving_dir": tmp_path}
    return PipelineConfig.model_validate({**values, "ingest": {"tables": {"impressions": "x"}}})


AUTOINT = {"parameters": {"history": {"short": "mean", "long": "none"}}}


def test_it_is_trained_after_its_teacher_and_has_no_tables(tmp_path):
    whole = config(tmp_path, hcn={"teacher": "autoint"}, autoint=AUTOINT, two_tower={})
    checked = check_models(whole)
    assert list(checked) == ["two_tower", "autoint", "hcn"] and list(whole.models.rankers) == ["autoint", "hcn"]
    assert whole.models.fine_rankers == ("autoint",) and not reads_tables(checked["hcn"])
    assert select_models(whole, ["hcn"]).models.names == ("two_tower", "autoint", "hcn")
    without = config(tmp_path, hcn={}, autoint=AUTOINT, two_tower={})
    assert select_models(without, ["hcn"]).models.names == ("two_tower", "hcn")
    assert select_models(whole, ["autoint"]).models.names == ("autoint",)


@pytest.mark.parametrize(
    "models, message",
    [
        ({"hcn": {}}, "add `two_tower` to `models`"),
        ({"hcn": {"teacher": "autoin"}, "two_tower": {}, "autoint": AUTOINT}, "Did you mean `autoint`"),
        ({"hcn": {"teacher": "hcn"}, "two_tower": {}}, "no ranker `hcn`"),
        ({"hcn": {"parameters": {"distillation": 1.0}}, "two_tower": {}}, "name a fine ranker as `models.hcn.teacher`"),
        ({"hcn": {"parameters": {"unshown_labels": "teacher"}}, "two_tower": {}}, "asks for a teacher"),
        ({"hcn": {"parameters": {"num_interest": 3}}, "two_tower": {}}, "num_interest"),
    ],
)
def test_it_says_what_is_missing(tmp_path, models, message):
    with pytest.raises(SpecError, match=message):
        check_models(config(tmp_path, **models))
