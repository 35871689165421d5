"""ReleasePusher: names what a run allowed, and what it left as it was, as one release."""

import json
from collections.abc import Mapping

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec
from tfx.types.standard_artifacts import Examples, ModelBlessing, ModelEvaluation, PushedModel

from evaluation.baselines import count_items
from features import storage
from features.arrow import write_parquet
from features.items.catalogue import CATALOGUE_FILE, has_catalogue
from pipeline.artifacts import BehaviorTableSet, ProfileSet, ReleaseNote
from pipeline.components.evaluators.evaluator import load_evaluation
from pipeline.components.log_ingest import INPUT_FINGERPRINT
from pipeline.components.push.behavior_tables import SUMMARY_FILE
from pipeline.components.push.user_profiles import PROFILES_FILE
from pipeline.release.next_release import Allowed, ReleasePlan, release_run

NOTE_FILE = "release.json"
POPULAR_FILE = "popular_items.parquet"
#: Of the most clicked items, how many a release names: what a retrieval finds, by default.
POPULAR_ITEMS = 1000

#: The input of ReplayEvaluator's verdict.
REPLAY = "replay_blessing"

#: What comes of each model; an input is called `<model>_<part>`.
PARTS = {"pushed_model": PushedModel, "evaluation": ModelEvaluation, "tables": BehaviorTableSet}


class ReleasePusherSpec(component_spec.ComponentSpec):
    """Interface of ReleasePusher but for what comes of each model, whose number the pipeline knows."""

    PARAMETERS = {"release_plan": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=Examples),
        "profiles": component_spec.ChannelParameter(type=ProfileSet),
    }
    OUTPUTS = {"release": component_spec.ChannelParameter(type=ReleaseNote)}


class ReleasePusherExecutor(base_executor.BaseExecutor):
    """Runs `pipeline.release.next_release.release_run` on what was pushed."""

    def Do(self, input_dict, output_dict, exec_properties):
        plan = ReleasePlan.model_validate_json(exec_properties["release_plan"])
        found = {key: artifact_utils.get_single_instance(given) for key, given in input_dict.items()}
        allowed = {} if _refused(found.get(REPLAY)) else _pushed_models(plan, found)
        examples = found["examples"]
        note = artifact_utils.get_single_instance(output_dict["release"])
        items = popular = None
        if allowed and has_catalogue(examples.uri):
            items, popular = storage.join(examples.uri, CATALOGUE_FILE), storage.join(note.uri, POPULAR_FILE)
            write_parquet(count_items(examples.uri, plan.label).most_clicked(POPULAR_ITEMS), popular)
        data = examples.get_string_custom_property(INPUT_FINGERPRINT)
        built = json.loads(storage.read_text(storage.join(found["profiles"].uri, PROFILES_FILE)))
        released = release_run(plan, allowed, items, data, popular_items=popular, profiles=built["version"])
        release_id = "" if released is None else released.id
        note.set_string_custom_property("release", release_id)
        storage.write_text(storage.join(note.uri, NOTE_FILE), json.dumps({"release": release_id}) + "\n")


class ReleasePusher(base_component.BaseComponent):
    """Publishes a release (docs/reference/serving/releases.md) of what was pushed before it; none where nothing was.

    Args:
      plan: what belongs to a release of this pipeline.
      examples: of LogIngest, with the catalogue of items.
      profiles: of UserProfiles.
      models: by name: `pushed_model`, `evaluation`, and `tables` of a ranker that reads some.
      replay: of ReplayEvaluator: without its blessing there is no release. None: nothing was replayed.
    """

    SPEC_CLASS = ReleasePusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ReleasePusherExecutor)

    def __init__(
        self,
        plan: ReleasePlan,
        examples,
        profiles,
        models: Mapping[str, Mapping[str, types.BaseChannel]],
        replay: types.BaseChannel | None = None,
    ):
        given, inputs = {}, dict(ReleasePusherSpec.INPUTS)
        for name, parts in models.items():
            for part, channel in parts.items():
                given[f"{name}_{part}"] = channel
                inputs[f"{name}_{part}"] = component_spec.ChannelParameter(type=PARTS[part])
        if replay is not None:
            given[REPLAY], inputs[REPLAY] = replay, component_spec.ChannelParameter(type=ModelBlessing)
        spec = type("_Spec", (ReleasePusherSpec,), {"INPUTS": inputs})
        channel = types.Channel(type=ReleaseNote)
        given |= {"examples": examples, "profiles": profiles}
        super().__init__(spec(release_plan=plan.model_dump_json(), release=channel, **given))


def _refused(blessing) -> bool:
    """Whether a replay was asked and found what the profile refuses."""
    return blessing is not None and blessing.get_int_custom_property("blessed") != 1


def _pushed_models(plan: ReleasePlan, found) -> dict[str, Allowed]:
    """The models that were pushed, by name."""
    allowed = {}
    for name in plan.models:
        pushed = found.get(f"{name}_pushed_model")
        if pushed is not None and pushed.get_int_custom_property("pushed") == 1:
            allowed[name] = _allowed(pushed, found[f"{name}_evaluation"], found.get(f"{name}_tables"))
    return allowed


def _allowed(pushed, evaluation, tables) -> Allowed:
    """What a model's components say of it."""
    version = int(storage.name(pushed.get_string_custom_property("pushed_destination")))
    built = tables and json.loads(storage.read_text(storage.join(tables.uri, SUMMARY_FILE)))
    judged = load_evaluation(evaluation.uri)
    return Allowed(version, judged.figures(), built["version"] if built else None, overridden=not judged.blessed)
