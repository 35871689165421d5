"""The configuration of a pipeline: one YAML file says what is read, learnt, demanded and published."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from evaluation.config import HISTORY_LENGTH, KEY_COLUMNS, EvaluationConfig
from features.config import (
    Strict,
    nearest,
    parse_model,
    read_yaml,
)
from features.datasets.simulator.config import SimulatorConfig
from features.ingest.config import IngestConfig
from features.spec import FeatureSpec, load_spec
from pipeline.cascade_section import CascadeSection
from pipeline.model_config import ModelsConfig, RankerConfig

#: Beam's `DirectRunner` first tries to download a Prism binary: name the in-process runner.
LOCAL_BEAM_ARGS = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)


class SimulateConfig(Strict):
    """A simulated log, made before the run if it is not there yet. Its truth is read by the report alone."""

    out: Path = Field(description="Directory of the log tables; the truth goes to `truth/` in it.")
    log: SimulatorConfig = SimulatorConfig()


class PipelineConfig(Strict):
    """One pipeline. Relative paths start at the working directory, `feature_spec` at the configuration file.

    Attributes:
      name: of the pipeline; keeps runs and their metadata apart.
      feature_spec: path of the feature spec's YAML, or the spec itself.
      ingest: tables, labels, split, tolerance for bad rows.
      simulate: make the log first.
      schema_path: a reviewed TFDV schema (`schema.pbtxt`). With it every batch of logs is held against that schema;
        without, the schema is inferred from the same log, so only contradictions between its splits would show.
      models: which models are trained, and how; see `pipeline.model_config`.
      evaluation: metrics, slices and the gates of the rankers' blessing.
      cascade: the cascade of these models, judged as one; None: it is not. See `pipeline.cascade_section`.
      warmup_requests: real requests put into the export for the server to replay before it takes traffic, so that the
        first users do not wait for lazy initialisation; 0: none.
      run_dir: artifacts, metadata, timings and report.
      serving_dir: blessed models are pushed to `<serving_dir>/<pipeline>_<model>/<version>/`.
      enable_cache: do not repeat what was done before with the same inputs.
      beam_pipeline_args: of every Beam component, e.g. another runner.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    feature_spec: FeatureSpec
    ingest: IngestConfig
    simulate: SimulateConfig | None = None
    schema_path: str | None = None
    models: ModelsConfig = ModelsConfig(autoint=RankerConfig())
    evaluation: EvaluationConfig = EvaluationConfig()
    cascade: CascadeSection | None = None
    warmup_requests: int = Field(32, ge=0, lt=1000)
    run_dir: Path
    serving_dir: Path
    enable_cache: bool = True
    beam_pipeline_args: tuple[str, ...] = LOCAL_BEAM_ARGS

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values):
        if isinstance(values, dict) and isinstance(values.get("name"), str):
            values = dict(values)
            values.setdefault("run_dir", Path("runs") / values["name"])
            values.setdefault("serving_dir", Path("serving_models"))
        return values

    @model_validator(mode="after")
    def _check(self):
        names = [*(feature.name for feature in self.feature_spec.features), HISTORY_LENGTH, *KEY_COLUMNS]
        for name in self.evaluation.slices.features:
            if name not in names:
                raise ValueError(f"`evaluation.slices.features`: no feature `{name}`.{nearest(name, names)}")
        if self.models.two_tower is not None and self.feature_spec.history is None:
            raise ValueError("`models.two_tower` reads short histories: name a `history` in the feature spec.")
        if self.cascade is not None:
            if self.models.two_tower is None or not self.models.fine_rankers:
                raise ValueError("`cascade` needs a two-tower and a fine ranker in `models`.")
            if self.cascade_ranker not in self.models.fine_rankers:
                fine = self.models.fine_rankers
                raise ValueError(
                    f"`cascade.ranker`: no fine ranker `{self.cascade.ranker}`.{nearest(self.cascade.ranker, fine)}"
                )
        return self

    @property
    def cascade_ranker(self) -> str | None:
        """The fine ranker of the cascade; None where none is judged."""
        if self.cascade is None:
            return None
        return self.cascade.ranker or next(iter(self.models.fine_rankers))

    def evaluation_of(self, ranker: str) -> EvaluationConfig:
        """Metrics and gates of a ranker: its own, or those of all."""
        return getattr(getattr(self.models, ranker), "evaluation", None) or self.evaluation

    @property
    def pipeline_root(self) -> Path:
        """Where components write their artifacts."""
        return self.run_dir / "artifacts"

    @property
    def metadata_path(self) -> Path:
        """ML Metadata's SQLite file: lineage and the cache."""
        return self.run_dir / "metadata.sqlite"

    @property
    def timings_path(self) -> Path:
        return self.run_dir / "timings.json"

    @property
    def log_path(self) -> Path:
        return self.run_dir / "pipeline.log"

    @property
    def report_dir(self) -> Path:
        return self.run_dir / "report"

    def push_dir(self, model: str) -> Path:
        """A model's versions. The pipeline is part of the name: two pipelines' models never replace each other."""
        return self.serving_dir / f"{self.name}_{model}"

    def tables_dir(self, model: str) -> Path:
        """The store of a ranker's bucket tables, with all its versions."""
        return self.serving_dir / f"{self.name}_{model}_bse"

    @property
    def judged_split(self) -> str:
        """The split that evaluators read: no training ever looked at `test`."""
        return "test" if "test" in self.ingest.split.names else "eval"


def load_config(path: str | Path) -> PipelineConfig:
    """Reads a pipeline configuration and the feature spec that it names.

    Raises:
      SpecError: naming the file, the key and the nearest known key.
    """
    path = Path(path)
    values = read_yaml(path)
    if isinstance(values.get("feature_spec"), str):
        values["feature_spec"] = load_spec(path.parent / values["feature_spec"]).model_dump()
    return parse_model(values, PipelineConfig, source=str(path))
