"""ReplayEvaluator: what it leaves, which verdicts stop a release, and where it stands in the DAG."""

import models  # noqa: F401  chooses the Keras, before TFX imports TensorFlow

# isort: split
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing, ModelEvaluation

from evaluation.replay.verdicts.replay_report import ReplayReport
from features.arrow import write_parquet
from features.errors import InputError
from features.storage import copy_tree
from pipeline.artifacts import BehaviorLog, ProfileSet, ReleaseNote
from pipeline.components.evaluators.replay_evaluator import ReplayEvaluator
from pipeline.components.log_ingest import INPUT_FINGERPRINT
from pipeline.components.push.release_pusher import ReleasePusher
from pipeline.config import PipelineConfig
from pipeline.pipeline import create_pipeline
from pipeline.release.next_release import release_plan
from pipeline.replay.config import ReplaySection
from serving.export.ranker import export_ranker
from serving.saved.ranker import SavedRanker
from tests.builders.small_ranker import random_requests
from tests.e2e.small_run import make_config

SECTION = ReplaySection(slots=1, policy="top")
REQUESTS = 1500


@pytest.fixture(scope="module")
def export(model, encoding, tmp_path_factory):
    return export_ranker(model, encoding, tmp_path_factory.mktemp("export") / "1", random_requests(4, seed=9))


@pytest.fixture(scope="module")
def requests(export):
    """A uniform logger's lists of distinct users; what the ranker likes least is clicked the most."""
    from serving.requests.tensors import tensors_from_table
    from serving.saved.signature_specs import RANK_REQUESTS

    table, ranker = random_requests(REQUESTS, seed=4), SavedRanker(export)
    tensors = tensors_from_table(ranker.spec, table, ranker.history, ranker.inputs(RANK_REQUESTS))
    logits = np.asarray(ranker.run(RANK_REQUESTS, tensors)["logit"])
    counts = [len(each) for each in table["item_id"].to_pylist()]
    rng, ends = np.random.default_rng(0), np.cumsum(counts)
    lists = np.split(logits, ends[:-1])
    clicks = [(rng.random(len(each)) < np.where(each <= np.median(each), 0.5, 0.1)).astype(float) for each in lists]
    table = table.set_column(table.column_names.index("click"), "click", pa.array(clicks, pa.list_(pa.float32())))
    table = table.append_column("propensity", pa.array([[1 / n] * n for n in counts]))
    return table.set_column(
        table.column_names.index("user_id"), "user_id", pa.array([f"u{i}" for i in range(REQUESTS)])
    )


@pytest.fixture
def run(export, tmp_path):
    """Runs the component on requests; returns its blessing, the report, and what ReleasePusher does of it."""

    def judged(requests: pa.Table, section: ReplaySection = SECTION):
        kinds = {"examples": Examples, "behaviors": BehaviorLog, "model": Model}
        kinds |= {"evaluation": ModelEvaluation, "blessing": ModelBlessing}
        made = {name: kind() for name, kind in kinds.items()}
        for name, artifact in made.items():
            artifact.uri = str(tmp_path / name)
        write_parquet(requests, tmp_path / "examples" / "Split-test" / "requests-00000-of-00001.parquet")
        copy_tree(export, tmp_path / "model" / "Format-Serving")
        function = ReplayEvaluator.EXECUTOR_SPEC.executor_class._FUNCTION
        inputs = [made[name] for name in ("examples", "behaviors", "model")]
        parameters = (section.model_dump_json(), "test", str(tmp_path / "serving"))
        function(*inputs, *parameters, made["evaluation"], made["blessing"])
        return made["blessing"], ReplayReport.read(tmp_path / "evaluation" / "replay.json")

    return judged


def flipped(requests: pa.Table) -> pa.Table:
    clicks = [[1 - each for each in row] for row in requests["click"].to_pylist()]
    return requests.set_column(requests.column_names.index("click"), "click", pa.array(clicks, pa.list_(pa.float32())))


def test_a_ranker_that_would_have_earned_less_is_not_blessed(run, requests, tmp_path):
    blessing, report = run(requests)
    assert report.outcome == "worse" and report.requests == REQUESTS and report.comparisons[0].difference.high < 0
    assert blessing.get_int_custom_property("blessed") == 0
    assert [path.name for path in (tmp_path / "blessing").iterdir()] == ["NOT_BLESSED"]
    page = (tmp_path / "evaluation" / "replay.html").read_text()
    assert "✗ Worse" in page and "this run&#39;s ranker by greedy" in page and str(tmp_path) not in page


def test_a_ranker_that_would_have_earned_more_is_blessed(run, requests, tmp_path):
    blessing, report = run(flipped(requests))
    assert report.outcome == "better" and blessing.get_int_custom_property("blessed") == 1


def test_a_withheld_verdict_stops_a_release_only_where_it_is_said_to(run, requests, tmp_path):
    few = requests.slice(0, 150)
    blessing, report = run(few)
    assert report.outcome == "withheld" and blessing.get_int_custom_property("blessed") == 1
    blessing, _ = run(few, SECTION.model_copy(update={"refuse": ("worse", "withheld")}))
    assert blessing.get_int_custom_property("blessed") == 0
    assert "worth" in blessing.get_string_custom_property("blessing_message")


def test_logs_without_propensities_are_named(run, requests):
    with pytest.raises(InputError, match="no column `propensity`"):
        run(requests.drop(["propensity"]))


def test_release_pusher_waits_for_it_and_releases_nothing_that_it_refused(tmp_path):
    config = make_config(tmp_path, replay={"propensities": "conditional"})
    nodes = {node.id: node for node in create_pipeline(config).components}
    judge, pusher = nodes["ReplayEvaluator"], nodes["ReleasePusher"]
    assert pusher.inputs["replay_blessing"] == judge.outputs["blessing"]
    assert judge.inputs["model"] == nodes["Trainer.autoint"].outputs["model"]
    assert judge.inputs["two_tower"] == nodes["Trainer.retrieval"].outputs["model"]
    assert judge.inputs["coarse"] == nodes["Trainer.hcn"].outputs["model"]
    alone = create_pipeline(make_config(tmp_path, replay={"candidate": "ranker"})).components
    assert "two_tower" not in next(node for node in alone if node.id == "ReplayEvaluator").inputs
    without = create_pipeline(make_config(tmp_path, replay=None)).components
    assert "ReplayEvaluator" not in [node.id for node in without]
    note = release(config, tmp_path, blessed=0)
    assert json.loads((tmp_path / "release" / "release.json").read_text()) == {"release": ""} and not note
    # Blessed, what was pushed is looked at, which here has no evaluation.
    with pytest.raises(FileNotFoundError, match="nowhere"):
        release(config, tmp_path, blessed=1)


def release(config: PipelineConfig, folder, blessed: int) -> str:
    from tfx.types.standard_artifacts import PushedModel

    kinds = {"examples": Examples, "profiles": ProfileSet, "replay_blessing": ModelBlessing}
    kinds |= {"autoint_pushed_model": PushedModel, "autoint_evaluation": ModelEvaluation}
    made = {name: kind() for name, kind in kinds.items()}
    for name, artifact in made.items():
        artifact.uri = str(folder / name)
    made["autoint_evaluation"].uri = str(folder / "nowhere")
    made["examples"].set_string_custom_property(INPUT_FINGERPRINT, "data")
    made["autoint_pushed_model"].set_int_custom_property("pushed", 1)
    made["autoint_pushed_model"].set_string_custom_property("pushed_destination", str(folder / "autoint" / "1"))
    made["replay_blessing"].set_int_custom_property("blessed", blessed)
    (folder / "profiles").mkdir(exist_ok=True)
    (folder / "profiles" / "profiles.json").write_text('{"version": ""}')
    note = ReleaseNote()
    note.uri = str(folder / "release")
    plan = {"release_plan": release_plan(config).model_dump_json()}
    executor = ReleasePusher.EXECUTOR_SPEC.executor_class()
    executor.Do({name: [each] for name, each in made.items()}, {"release": [note]}, plan)
    return note.get_string_custom_property("release")


@pytest.mark.parametrize(
    "section, message",
    [
        ({"model": "autoin"}, "no fine ranker `autoin`. Did you mean `autoint`?"),
        ({"candidate": "cascade", "model": "aw_moe"}, "needs a `cascade` in the profile"),
        ({"policy": "softmax@x"}, "parameters must be numbers"),
        ({"refuse": ["bad"]}, "'better', 'worse', 'cannot_tell' or 'withheld'"),
        ({"plan": {"estimators": ["snip"]}}, "Did you mean `snips`?"),
    ],
)
def test_sections_that_cannot_be_used_are_refused_before_the_run(section, message, tmp_path):
    with pytest.raises(ValidationError, match=re.escape(message)):
        make_config(tmp_path, replay=section)
