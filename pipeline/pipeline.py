"""The whole DAG on one screen."""

from __future__ import annotations

import json

from features import storage
from pipeline.config import PipelineConfig


def create_pipeline(config: PipelineConfig):
    """Returns the TFX pipeline of a configuration: a `tfx.orchestration.pipeline.Pipeline`.

    Pure: reads and writes nothing. What stands behind the configured paths is looked at by the components' drivers
    when they run.
    """
    # isort: off
    from pipeline.components.anomaly_gate import AnomalyGate  # first: `pipeline.components` chooses the Keras
    from pipeline.components.behavior_signatures import BehaviorSignatures
    from pipeline.components.evaluators.cascade_evaluator import CascadeEvaluator
    from pipeline.components.evaluators.model_anchor import ModelAnchor
    from pipeline.components.evaluators.replay_evaluator import ReplayEvaluator
    from pipeline.components.coarse_examples import CoarseExamples
    from pipeline.components.feature_encoder import FeatureEncoder
    from pipeline.components.import_schema_gen import ImportSchemaGen
    from pipeline.components.log_ingest import LogIngest
    from pipeline.components.log_statistics import LogStatistics
    from pipeline.components.push.behavior_tables import BehaviorTables
    from pipeline.components.push.pusher import Pusher
    from pipeline.components.push.release_pusher import ReleasePusher
    from pipeline.components.push.serving_validator import ServingValidator
    from pipeline.components.push.user_profiles import UserProfiles
    from pipeline.components.teacher_lists import TeacherLists
    from pipeline.components.vocabulary import Vocabulary
    from pipeline.components.training.warm_trainer import WarmTrainer
    from pipeline.run.lineage import metadata_connection
    from models.sdim.config import reads_signatures, reads_tables
    from pipeline.model_kinds import STAGES, load
    from pipeline.release.next_release import release_plan
    from pipeline.trainer import RUN_FN, trainer_config
    from tfx.components.example_validator.component import ExampleValidator
    from tfx.components.schema_gen.component import SchemaGen
    from tfx.components.trainer.component import Trainer
    from tfx.orchestration.pipeline import Pipeline
    from tfx.proto.pusher_pb2 import PushDestination
    # isort: on

    nodes = []

    def add(node, model: str | None = None):
        """Adds a component, under the name of the model that it is of, and returns it."""
        nodes.append(node.with_id(f"{node.id}.{model}") if model else node)
        return node

    push_dirs = [storage.absolute(config.push_dir(name)) for name in config.models.names]
    ingest = add(LogIngest(config.ingest, config.feature_spec, push_dirs))
    examples, behaviors = ingest.outputs["examples"], ingest.outputs["behaviors"]
    stats = add(LogStatistics(examples=examples)).outputs["statistics"]
    schema_gen = add(ImportSchemaGen(config.schema_path) if config.schema_path else SchemaGen(statistics=stats))
    validator = add(ExampleValidator(statistics=stats, schema=schema_gen.outputs["schema"]))
    gate = add(AnomalyGate(anomalies=validator.outputs["anomalies"]))
    warm = [storage.absolute(config.push_dir(name)) for name in config.warm_models]
    spec_json = config.feature_spec.model_dump_json()
    vocabulary = add(Vocabulary(examples=examples, feature_spec=spec_json, push_dirs=json.dumps(warm)))
    vocabulary.add_upstream_node(gate)
    logs = {"examples": examples, "behaviors": behaviors}
    encoding = vocabulary.outputs["encoding"]
    encoder = add(FeatureEncoder(**logs, encoding=encoding, sample_requests=config.warmup_requests))
    encoded = logs | {"encoded_examples": encoder.outputs["encoded_examples"]}
    stored = {"store_dir": storage.absolute(config.profiles_dir), "length": config.profile_length}
    profiles = add(UserProfiles(**logs, feature_spec=config.feature_spec.model_dump_json(), **stored))
    profiles.add_upstream_node(gate)

    # Every model after those that it learns from: its examples, Trainer → evaluator → a trial on a server → its tables
    # → Pusher, what others need of it.
    models, trained, lists, signatures, released = config.models, {}, {}, None, {}
    for name in models.names:
        section, stage, taught_by = models[name], models.stage(name), {}
        learns_from = encoded["encoded_examples"]
        if section.taught:
            taught_by = {"two_tower": trained[models.base_retrieval], "teacher": trained[section.teacher]}
            scored = TeacherLists(**encoded, **taught_by, lists_config=section.lists.model_dump_json())
            add(scored, None if name == models.cascade_retrieval else name)
            learns_from = lists[name] = scored.outputs["teacher_lists"]
        if stage == "coarse":
            candidates = CoarseExamples(
                **encoded,
                two_tower=trained[models.cascade_retrieval],
                candidate_sets=section.candidates.model_dump_json(),
                teacher=trained.get(section.teacher),
                teacher_lists=lists.get(models.cascade_retrieval) if section.list_training else None,
            )
            add(candidates, None if name == models.cascade_coarse else name)
            learns_from = candidates.outputs["coarse_examples"]
        trainer = (WarmTrainer if section.training.warm_start else Trainer)(
            examples=learns_from,
            transform_graph=encoding,
            base_model=signatures if reads_signatures(section.parameters) else None,
            run_fn=RUN_FN,
            custom_config=trainer_config(config, name),
        ).with_id("Trainer")
        trained[name] = add(trainer, name).outputs["model"]
        judge = load(STAGES[stage].evaluator)
        serving_dir = storage.absolute(config.push_dir(name))
        evaluator = judge(
            **logs,
            model=trained[name],
            evaluation_config=config.evaluation_of(name),
            label=config.feature_spec.label,
            split=config.judged_split,
            serving_dir=serving_dir,
            **({"truth": config.truth_dir} if "truth" in judge.SPEC_CLASS.PARAMETERS else {}),
            **taught_by,
        )
        blessing, infra_blessing = add(evaluator, name).outputs["blessing"], None
        if config.serving is not None:
            trial = ServingValidator(
                model=trained[name], blessing=blessing, serving_config=config.serving.model_dump_json()
            )
            infra_blessing = add(trial, name).outputs["infra_blessing"]
        pusher = Pusher(
            model=trained[name],
            model_blessing=blessing,
            infra_blessing=infra_blessing,
            push_destination=PushDestination(filesystem={"base_directory": serving_dir}),
        )
        pushed, judged = pusher.outputs["pushed_model"], evaluator.outputs["evaluation"]
        released[name] = {"pushed_model": pushed, "evaluation": judged}
        if reads_tables(section.parameters):
            store = {"store_dir": storage.absolute(config.tables_dir(name)), "precision": section.tables.precision}
            allowed = {"blessing": blessing, "infra_blessing": infra_blessing}
            tables = BehaviorTables(model=trained[name], **allowed, behaviors=behaviors, **store)
            pusher.add_upstream_node(add(tables, name))  # Who sees the ranker finds its tables.
            released[name]["tables"] = tables.outputs["tables"]
        if stage == "fine":
            pusher.add_upstream_node(profiles)  # So it is with what its users are known by.
        add(pusher, name)
        add(ModelAnchor(pushed_model=pushed, evaluation=judged, serving_dir=serving_dir), name)
        if name == models.base_retrieval:
            signed = BehaviorSignatures(model=trained[name], signatures_config=section.signatures.model_dump_json())
            signatures = add(signed).outputs["signatures"]

    replayed = None
    if config.replayed_ranker in trained:
        sections = {"replay_config": config.replay.model_dump_json()}
        whole = {"model": trained[config.replayed_ranker]}
        if config.replays_cascade:
            whole |= {"two_tower": trained[models.cascade_retrieval], "coarse": trained.get(models.cascade_coarse)}
            sections["cascade_config"] = config.cascade.model_dump_json()
        root = storage.absolute(config.serving_dir)
        replay = ReplayEvaluator(**logs, **whole, **sections, split=config.judged_split, serving_root=root)
        replayed = add(replay).outputs["blessing"]
    add(ReleasePusher(release_plan(config), examples, profiles.outputs["profiles"], released, replayed))
    if config.cascade is not None:
        cascade = CascadeEvaluator(
            **logs,
            two_tower=trained[models.cascade_retrieval],
            coarse=trained.get(models.cascade_coarse),
            ranker=trained[config.cascade_ranker],
            cascade_config=config.cascade.model_dump_json(),
            ranker_name=config.cascade_ranker,
            split=config.judged_split,
        )
        add(cascade)

    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=storage.absolute(config.pipeline_root),
        metadata_connection_config=metadata_connection(config.metadata_path),
        components=nodes,
        enable_cache=config.enable_cache,
        beam_pipeline_args=list(config.beam_pipeline_args),
    )
