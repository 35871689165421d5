"""The whole DAG on one screen."""

from __future__ import annotations

import os

from pipeline.config import PipelineConfig


def create_pipeline(config: PipelineConfig):
    """Returns the TFX pipeline of a configuration: a `tfx.orchestration.pipeline.Pipeline`.

    Pure: reads and writes nothing. What stands behind the configured paths is looked at by the components' drivers
    when they run.
    """
    # isort: off
    from pipeline.components.anomaly_gate import AnomalyGate  # first: `pipeline.components` chooses the Keras
    from pipeline.components.feature_encoder import FeatureEncoder
    from pipeline.components.import_schema_gen import ImportSchemaGen
    from pipeline.components.log_ingest import LogIngest
    from pipeline.components.log_statistics import LogStatistics
    from pipeline.components.ranking_evaluator import RankingEvaluator
    from pipeline.components.vocabulary import Vocabulary
    from pipeline.lineage import metadata_connection
    from pipeline.trainer_module import RUN_FN, trainer_config
    from tfx.components.example_validator.component import ExampleValidator
    from tfx.components.pusher.component import Pusher
    from tfx.components.schema_gen.component import SchemaGen
    from tfx.components.trainer.component import Trainer
    from tfx.orchestration.pipeline import Pipeline
    from tfx.proto import pusher_pb2
    # isort: on

    spec = config.feature_spec.model_dump_json()

    ingest = LogIngest(ingest_config=config.ingest, feature_spec=config.feature_spec)
    examples = ingest.outputs["examples"]

    statistics = LogStatistics(examples=examples)
    stats = statistics.outputs["statistics"]
    schema_gen = ImportSchemaGen(config.schema_path) if config.schema_path else SchemaGen(statistics=stats)
    validator = ExampleValidator(statistics=stats, schema=schema_gen.outputs["schema"])
    gate = AnomalyGate(anomalies=validator.outputs["anomalies"])

    vocabulary = Vocabulary(examples=examples, feature_spec=spec)
    vocabulary.add_upstream_node(gate)
    encoding = vocabulary.outputs["encoding"]
    encoder = FeatureEncoder(
        examples=examples,
        behaviors=ingest.outputs["behaviors"],
        encoding=encoding,
        sample_requests=config.warmup_requests,
    )

    trainer = Trainer(
        examples=encoder.outputs["encoded_examples"],
        transform_graph=encoding,
        run_fn=RUN_FN,
        custom_config=trainer_config(config),
    ).with_id(f"Trainer.{config.model.name}")

    evaluator = RankingEvaluator(
        examples=examples,
        model=trainer.outputs["model"],
        evaluation_config=config.evaluation,
        label=config.feature_spec.label,
        split="test" if "test" in config.ingest.split.names else "eval",
        serving_dir=os.path.abspath(config.push_dir),
    ).with_id(f"RankingEvaluator.{config.model.name}")

    pusher = Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=os.path.abspath(config.push_dir))
        ),
    ).with_id(f"Pusher.{config.model.name}")

    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=os.path.abspath(config.pipeline_root),
        metadata_connection_config=metadata_connection(config.metadata_path),
        components=[ingest, statistics, schema_gen, validator, gate, vocabulary, encoder, trainer, evaluator, pusher],
        enable_cache=config.enable_cache,
        beam_pipeline_args=list(config.beam_pipeline_args),
    )
