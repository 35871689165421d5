"""The whole DAG on one screen."""

from __future__ import annotations

import os

from pipeline.config import PipelineConfig


def create_pipeline(config: PipelineConfig):
    """Returns the TFX pipeline of a configuration: a `tfx.orchestration.pipeline.Pipeline`.

    Pure: reads and writes nothing. What stands behind the configured paths is looked at by the components' drivers
    when they run.

    Raises:
      SpecError: if a model's section holds an unknown key or a wrong value, or lacks a model that it rests on.
    """
    # isort: off
    from pipeline.components.anomaly_gate import AnomalyGate  # first: `pipeline.components` chooses the Keras
    from pipeline.components.behavior_signatures import BehaviorSignatures
    from pipeline.components.behavior_tables import BehaviorTables
    from pipeline.components.evaluators.cascade_evaluator import CascadeEvaluator
    from pipeline.components.coarse_examples import CoarseExamples
    from pipeline.components.feature_encoder import FeatureEncoder
    from pipeline.components.import_schema_gen import ImportSchemaGen
    from pipeline.components.log_ingest import LogIngest
    from pipeline.components.log_statistics import LogStatistics
    from pipeline.components.evaluators.ranking_evaluator import RankingEvaluator
    from pipeline.components.evaluators.retrieval_evaluator import RetrievalEvaluator
    from pipeline.components.teacher_lists import TeacherLists
    from pipeline.components.vocabulary import Vocabulary
    from pipeline.lineage import metadata_connection
    from pipeline.model_config import COARSE_RANKER
    from pipeline.model_registry import check_models, reads_signatures, reads_tables
    from pipeline.trainer import RUN_FN, trainer_config
    from tfx.components.example_validator.component import ExampleValidator
    from tfx.components.pusher.component import Pusher
    from tfx.components.schema_gen.component import SchemaGen
    from tfx.components.trainer.component import Trainer
    from tfx.orchestration.pipeline import Pipeline
    from tfx.proto import pusher_pb2
    # isort: on

    models = check_models(config)
    spec = config.feature_spec.model_dump_json()

    ingest = LogIngest(ingest_config=config.ingest, feature_spec=config.feature_spec)
    examples, behaviors = ingest.outputs["examples"], ingest.outputs["behaviors"]

    statistics = LogStatistics(examples=examples)
    stats = statistics.outputs["statistics"]
    schema_gen = ImportSchemaGen(config.schema_path) if config.schema_path else SchemaGen(statistics=stats)
    validator = ExampleValidator(statistics=stats, schema=schema_gen.outputs["schema"])
    gate = AnomalyGate(anomalies=validator.outputs["anomalies"])

    vocabulary = Vocabulary(examples=examples, feature_spec=spec)
    vocabulary.add_upstream_node(gate)
    encoding = vocabulary.outputs["encoding"]
    encoder = FeatureEncoder(
        examples=examples, behaviors=behaviors, encoding=encoding, sample_requests=config.warmup_requests
    )
    nodes = [ingest, statistics, schema_gen, validator, gate, vocabulary, encoder]

    encoded = encoder.outputs["encoded_examples"]

    def train_judge_push(name: str, evaluator_class, evaluation, item_signatures=None, learns_from=encoded):
        """Adds Trainer → evaluator → Pusher of a model; returns the trained model and the pushed one."""
        serving_dir = os.path.abspath(config.push_dir(name))
        trainer = Trainer(
            examples=learns_from,
            transform_graph=encoding,
            base_model=item_signatures,
            run_fn=RUN_FN,
            custom_config=trainer_config(config, name),
        ).with_id(f"Trainer.{name}")
        evaluator = evaluator_class(
            examples=examples,
            behaviors=behaviors,
            model=trainer.outputs["model"],
            evaluation_config=evaluation,
            label=config.feature_spec.label,
            split=config.judged_split,
            serving_dir=serving_dir,
            **({"truth": config.truth_dir} if evaluator_class is RankingEvaluator else {}),
        ).with_id(f"{evaluator_class.__name__}.{name}")
        pusher = Pusher(
            model=trainer.outputs["model"],
            model_blessing=evaluator.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=serving_dir)
            ),
        ).with_id(f"Pusher.{name}")
        nodes.extend([trainer, evaluator, pusher])
        return trainer.outputs["model"], pusher.outputs["pushed_model"]

    trained, item_signatures = {}, None
    if config.models.two_tower is not None:
        retrieval = config.models.two_tower
        trained["two_tower"], _ = train_judge_push("two_tower", RetrievalEvaluator, retrieval.evaluation)
        signatures = BehaviorSignatures(
            model=trained["two_tower"], signatures_config=retrieval.signatures.model_dump_json()
        )
        nodes.append(signatures)
        item_signatures = signatures.outputs["signatures"]

    for name in config.models.fine_rankers:
        signed = item_signatures if reads_signatures(models[name]) else None
        trained[name], pushed = train_judge_push(name, RankingEvaluator, config.evaluation, signed)
        if reads_tables(models[name]):
            tables = BehaviorTables(
                pushed_model=pushed,
                behaviors=behaviors,
                store_dir=os.path.abspath(config.tables_dir(name)),
                precision=getattr(config.models, name).tables.precision,
            )
            nodes.append(tables.with_id(f"BehaviorTables.{name}"))

    logs = {"examples": examples, "behaviors": behaviors, "encoded_examples": encoded}
    lists = None
    if config.models.retrieval is not None:
        distilled = config.models.retrieval
        teacher_lists = TeacherLists(
            **logs,
            two_tower=trained["two_tower"],
            teacher=trained[distilled.teacher],
            lists_config=distilled.lists.model_dump_json(),
        )
        nodes.append(teacher_lists)
        lists = teacher_lists.outputs["teacher_lists"]
        trained["retrieval"], _ = train_judge_push(
            "retrieval", RetrievalEvaluator, distilled.evaluation, learns_from=lists
        )

    retrieves = trained.get(config.models.cascade_retrieval)
    if config.models.hcn is not None:
        coarse = config.models.hcn
        candidates = CoarseExamples(
            **logs,
            two_tower=retrieves,
            candidate_sets=coarse.candidates.model_dump_json(),
            **({"teacher": trained[coarse.teacher]} if coarse.teacher else {}),
            **({"teacher_lists": lists} if coarse.list_training is not None else {}),
        )
        nodes.append(candidates)
        trained[COARSE_RANKER], _ = train_judge_push(
            COARSE_RANKER,
            RankingEvaluator,
            config.evaluation_of(COARSE_RANKER),
            learns_from=candidates.outputs["coarse_examples"],
        )

    if config.cascade is not None:
        cascade = CascadeEvaluator(
            examples=examples,
            behaviors=behaviors,
            two_tower=retrieves,
            coarse=trained.get(COARSE_RANKER),
            ranker=trained[config.cascade_ranker],
            section=config.cascade,
            ranker_name=config.cascade_ranker,
            split=config.judged_split,
        )
        nodes.append(cascade)

    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=os.path.abspath(config.pipeline_root),
        metadata_connection_config=metadata_connection(config.metadata_path),
        components=nodes,
        enable_cache=config.enable_cache,
        beam_pipeline_args=list(config.beam_pipeline_args),
    )
