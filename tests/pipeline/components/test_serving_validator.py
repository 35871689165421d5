"""ServingValidator: what the component leaves, whom it lets through, and where it stands in the DAG."""

import models  # noqa: F401  chooses the Keras, before TFX imports TensorFlow

# isort: split
import pytest
from tfx.components.pusher.executor import Executor as StandardPusher
from tfx.components.util import model_utils
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing

from evaluation.serving_check import ServingCheck
from features.config import SpecError
from features.storage import copy_tree
from pipeline.artifacts import ServingEvidence
from pipeline.components.push.serving_validator import ServingValidator
from pipeline.config import PipelineConfig
from serving.export.ranker import export_ranker
from serving.validation.config import ServingSection
from tests.builders.small_ranker import random_requests
from tests.e2e.small_run import make_config

SECTION = ServingSection(p99_ms=60_000, concurrency=2, calls=12, candidates=10, rows=2)


@pytest.fixture(scope="module")
def export(model, encoding, tmp_path_factory):
    return export_ranker(model, encoding, tmp_path_factory.mktemp("export") / "1", random_requests(4, seed=9))


@pytest.fixture
def run(export, tmp_path):
    """Runs the component on the export; returns its two artifacts and what the standard Pusher makes of them."""

    def after(section: ServingSection = SECTION, evaluated: bool = True):
        made = {}
        for name, kind in {"model": Model, "blessing": ModelBlessing, "infra": InfraBlessing}.items():
            made[name] = kind()
            made[name].uri = str(tmp_path / name)
        evidence = ServingEvidence()
        evidence.uri = str(tmp_path / "evidence")
        copy_tree(export, tmp_path / "model" / "Format-Serving")
        made["blessing"].set_int_custom_property("blessed", int(evaluated))
        function = ServingValidator.EXECUTOR_SPEC.executor_class._FUNCTION
        function(made["model"], made["blessing"], section.model_dump_json(), made["infra"], evidence)
        given = {"model_blessing": [made["blessing"]], "infra_blessing": [made["infra"]]}
        return made["infra"], ServingCheck.load(evidence.uri), StandardPusher().CheckBlessing(given)

    return after


def test_a_model_that_can_be_served_is_pushed(run, tmp_path):
    infra, check, pushed = run()
    assert check.blessed and pushed and model_utils.is_infra_validated(infra)
    assert [path.name for path in (tmp_path / "infra").iterdir()] == ["INFRA_BLESSED"]
    assert check.measured.signature == "serving_default" and check.rows == 2


def test_a_model_that_cannot_be_served_in_time_is_not_pushed(run, tmp_path):
    infra, check, pushed = run(SECTION.model_copy(update={"p99_ms": 0.001}))
    assert [gate.name for gate in check.failed_gates] == ["p99_ms"]
    assert not pushed and not model_utils.is_infra_validated(infra)
    assert [path.name for path in (tmp_path / "infra").iterdir()] == ["INFRA_NOT_BLESSED"]


def test_a_model_that_its_evaluation_refused_is_not_tried(run):
    _, check, pushed = run(evaluated=False)
    assert [gate.name for gate in check.failed_gates] == ["evaluation"] and check.measured is None and not pushed


def test_a_trial_stands_before_every_pusher_and_every_store(tmp_path):
    from pipeline.pipeline import create_pipeline

    config = make_config(tmp_path)
    nodes = {node.id: node for node in create_pipeline(config).components}
    for name in config.models.names:
        trial = nodes[f"ServingValidator.{name}"]
        for after in (f"Pusher.{name}", f"BehaviorTables.{name}"):
            if after in nodes:
                assert nodes[after].inputs["infra_blessing"] == trial.outputs["infra_blessing"], after
        assert trial.exec_properties["serving_config"] == config.serving.model_dump_json()
    assert "BehaviorTables.autoint" in nodes


def test_a_profile_may_push_untried_models(tmp_path):
    from pipeline.pipeline import create_pipeline

    ids = [node.id for node in create_pipeline(make_config(tmp_path, serving=None)).components]
    assert "Pusher.autoint" in ids and not [each for each in ids if each.startswith("ServingValidator")]


def test_a_trial_without_rows_is_refused_before_anything_runs(tmp_path):
    values = make_config(tmp_path).model_dump() | {"warmup_requests": 0}
    with pytest.raises((SpecError, ValueError), match="`warmup_requests: 0` keeps none"):
        PipelineConfig.model_validate(values)
