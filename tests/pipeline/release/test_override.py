"""An override of failed gates: the evaluator finds it, the blessing says whose it is, the release tells."""

from types import SimpleNamespace

import pytest
from tfx.types.standard_artifacts import Model, ModelBlessing

from features.errors import InputError, NotFoundError
from pipeline.components.evaluators.evaluator import LiveModelDriver, mark_blessing
from pipeline.release import refused_model as refused
from pipeline.release.override import find_override, override
from pipeline.release.refused_model import refused_model
from pipeline.run.lineage import ComponentRun
from tests.builders.report_example import evaluation
from tests.pipeline.run.test_nodes_alone import make_config
from tests.serving.release.release_example import push

GATE = SimpleNamespace(name="min_auc", reason="AUC .51, at least .6 asked for")


@pytest.fixture
def trained(tmp_path):
    """A trained model, as TFX's Trainer leaves it."""
    push(str(tmp_path / "run"), "shop_autoint", 1)
    (tmp_path / "run" / "shop_autoint" / "1").rename(tmp_path / "run" / "Format-Serving")
    model = Model()
    model.uri, model.id = str(tmp_path / "run"), 7
    return model


def test_the_evaluator_looks_for_it(trained, tmp_path):
    serving_dir = str(tmp_path / "serving" / "shop_autoint")
    asked = SimpleNamespace(input_dict={"model": [trained]}, exec_properties={"serving_dir": serving_dir})
    assert LiveModelDriver(None).resolve(asked) == {"live_model": "", "anchor_model": "", "override": None}
    override(serving_dir, f"{trained.uri}/Format-Serving", {"min_auc": "AUC .51"}, "the sale", by="ada")
    assert LiveModelDriver(None).resolve(asked)["override"] == "ada: the sale"


@pytest.mark.parametrize("blessed, by, property_", [(True, "", 1), (False, "", 0), (False, "ada: the sale", 1)])
def test_the_blessing_says_whose_it_is(trained, tmp_path, blessed, by, property_):
    blessing = ModelBlessing()
    blessing.uri = str(tmp_path / "blessing")
    mark_blessing(blessing, SimpleNamespace(blessed=blessed, failed_gates=(GATE,)), trained, "", by)
    assert blessing.get_int_custom_property("blessed") == property_
    assert (tmp_path / "blessing" / ("BLESSED" if property_ else "NOT_BLESSED")).is_file()
    said = blessing.get_string_custom_property("blessing_message")
    assert said == (
        "" if blessed else "min_auc: AUC .51, at least .6 asked for" + (f"; allowed nevertheless by {by}" if by else "")
    )


def test_the_last_run_s_model_is_looked_up(trained, tmp_path, monkeypatch):
    config = make_config(tmp_path, models=["autoint"])
    runs = []
    monkeypatch.setattr(refused, "component_runs", lambda metadata, pipeline: runs)
    with pytest.raises(InputError, match="no model `autont`. Did you mean `autoint`"):
        refused_model(config, "autont")
    with pytest.raises(NotFoundError, match="no run evaluated `autoint`"):
        refused_model(config, "autoint")
    found = evaluation()
    gates = tuple(gate.model_copy(update={"passed": False, "reason": "too low"}) for gate in found.gates[:1])
    found.model_copy(update={"gates": gates, "blessed": False}).save(tmp_path / "evaluation")
    runs += [
        ComponentRun("Trainer.autoint", "COMPLETE", 0, 1, {"model": trained.uri}),
        ComponentRun("RankingEvaluator.autoint", "FAILED", 0, 1, {}),
        ComponentRun("RankingEvaluator.autoint", "COMPLETE", 1, 2, {"evaluation": str(tmp_path / "evaluation")}),
    ]
    model = refused_model(config, "autoint")
    assert model.failed_gates == {gates[0].name: "too low"} and model.saved_model == f"{trained.uri}/Format-Serving"
    assert find_override(config.push_dir("autoint"), model.saved_model) is None
    found.model_copy(update={"gates": (), "blessed": True}).save(tmp_path / "evaluation")
    with pytest.raises(InputError, match="passed its gates"):
        refused_model(config, "autoint")
