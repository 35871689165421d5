"""The configuration of a pipeline: one YAML file says what is read, learnt, demanded and published."""

from __future__ import annotations

import datetime
import os
from typing import Annotated

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from evaluation.cascade.config import CascadeSection
from evaluation.config import HISTORY_LENGTH, KEY_COLUMNS, SIGNED_ITEM, EvaluationConfig
from features import storage
from features.config import SpecError, Strict, nearest, parse_model, read_yaml
from features.datasets.simulator.config import SimulatorConfig
from features.errors import NotFoundError
from features.ingest.config import IngestConfig
from features.ingest.spans.config import SpanWindow
from features.spec import FeatureSpec, load_spec
from pipeline.model_sections import ModelsConfig
from pipeline.replay.config import ReplaySection
from pipeline.run.metadata_server import SQLITE_FILE
from serving.validation.config import ServingSection

#: Beam's `DirectRunner` first tries to download a Prism binary: name the in-process runner.
LOCAL_BEAM_ARGS = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)

#: Ends of the names of what lies beside a model's pushed versions: its anchors, its bucket tables.
BESIDE = ("_anchor", "_bse")

#: End of the name of the store of users' profiles, in the serving root.
PROFILES = "profiles"

#: A path or a URI, as it was given.
AnyText = Annotated[str, BeforeValidator(lambda path: os.fspath(path) if isinstance(path, os.PathLike) else path)]


class SimulateConfig(Strict):
    """A simulated log, made before the run if it is not there yet.

    Its truth is the oracle that rankers are shown beside; no model learns from it and no gate judges by it.
    """

    out: AnyText = Field(description="Directory of the log tables; the truth goes to `truth/` in it.")
    log: SimulatorConfig = Field(SimulatorConfig(), description="What to simulate.")


class PipelineConfig(Strict):
    """One pipeline. Relative paths start at the working directory, `feature_spec` at the configuration file.

    Attributes:
      name: of the pipeline; keeps runs and their metadata apart.
      feature_spec: path of the feature spec's YAML, or the spec itself.
      ingest: tables, labels, split, tolerance for bad rows.
      simulate: make the log first.
      schema_path: a reviewed TFDV schema (`schema.pbtxt`). With it every batch of logs is held against that schema;
        without, the schema is inferred from the same log, so only contradictions between its splits would show.
      models: which models are trained, and how; see `pipeline.model_sections`.
      evaluation: metrics, slices and the gates of the rankers' blessing.
      cascade: the cascade of these models, judged as one; None: it is not. See `evaluation.cascade.config`.
      replay: what these models would have earned on the held-out logs, beside what served them, which may stop a
        release; None: it is not asked.
      warmup_requests: real requests put into the export for the server to replay before it takes traffic, so that the
        first users do not wait for lazy initialisation; 0: none.
      serving: the trial that every model must pass before it is pushed: it is served by the embedded server and must
        answer what the trained model does, in time. None: models are pushed untried.
      run_dir: artifacts, metadata, timings and report.
      metadata: the database server of ML Metadata, for workers on several machines, as
        `postgresql://user@host/database` or `mysql://user@host/database`; None: an SQLite file in `run_dir`. See
        `pipeline.run.lineage.metadata_connection`.
      serving_dir: blessed models are pushed to `<serving_dir>/<pipeline>_<model>/<version>/`.
      lanes: how many components may run at the same time, each in a process of its own, as far as they do not depend on
        each other; 1: one after another, in one process. What they compute does not depend on it. None: two, or one on
        a single core.
      enable_cache: do not repeat what was done before with the same inputs.
      beam_pipeline_args: of every Beam component, e.g. another runner.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    feature_spec: FeatureSpec
    ingest: IngestConfig
    simulate: SimulateConfig | None = None
    schema_path: str | None = None
    models: ModelsConfig = Field(["autoint"], validate_default=True)
    evaluation: EvaluationConfig = EvaluationConfig()
    cascade: CascadeSection | None = None
    replay: ReplaySection | None = None
    warmup_requests: int = Field(32, ge=0, lt=1000)
    serving: ServingSection | None = ServingSection()
    run_dir: AnyText
    metadata: str | None = None
    serving_dir: AnyText = "serving_models"
    lanes: int | None = Field(None, ge=1, le=64)
    enable_cache: bool = True
    beam_pipeline_args: tuple[str, ...] = LOCAL_BEAM_ARGS
    _profile: PipelineConfig | None = PrivateAttr(default=None)
    _home: str | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values):
        if isinstance(values, dict) and isinstance(values.get("name"), str):
            values = {"run_dir": storage.join("runs", values["name"]), **values}
        return values

    @model_validator(mode="after")
    def _check(self):
        names = [*(feature.name for feature in self.feature_spec.features), HISTORY_LENGTH, SIGNED_ITEM, *KEY_COLUMNS]
        for name in self.evaluation.slices.features:
            if name not in names:
                raise ValueError(f"`evaluation.slices.features`: no feature `{name}`.{nearest(name, names)}")
        if self.ingest.window is not None:
            raise ValueError("`ingest.window` is set by `clickmill run --span`: leave it out.")
        if "eval" not in self.ingest.split.names:
            raise ValueError("`ingest.split` makes no split `eval`, by which training stops: set its `eval_fraction`.")
        if self.serving is not None and not self.warmup_requests:
            raise ValueError(
                "`serving` tries models with real requests, and `warmup_requests: 0` keeps none: keep some (32), or "
                "push untried models (`serving: null`)."
            )
        for name, section in self.models.root.items():
            section.check(name, self.models, self.feature_spec)
            taken = [f"{name}{part}" for part in BESIDE if f"{name}{part}" in self.models]
            if taken:
                raise ValueError(f"`models.{taken[0]}`: its folder would be one that `{name}` has: name it otherwise.")
        if PROFILES in self.models:
            raise ValueError(
                f"`models.{PROFILES}`: its folder would be that of the users' profiles: name it otherwise."
            )
        if self.cascade is not None:
            fine = self.models.fine_rankers
            if self.models.base_retrieval is None or not fine:
                raise ValueError("`cascade` needs a two-tower and a fine ranker in `models`.")
            if self.cascade_ranker not in fine:
                raise ValueError(
                    f"`cascade.ranker`: no fine ranker `{self.cascade.ranker}`.{nearest(self.cascade.ranker, fine)}"
                )
        if self.replay is not None and self.replayed_ranker not in self.models.fine_rankers:
            near = nearest(self.replay.model or "", self.models.fine_rankers)
            raise ValueError(f"`replay.model`: no fine ranker `{self.replay.model or 'at all'}`.{near}")
        if self.replay is not None and self.replay.candidate == "cascade" and not self.replays_cascade:
            raise ValueError("`replay.candidate: cascade` needs a `cascade` in the profile, with the same ranker.")
        return self

    def at_span(self, span: datetime.date, window_days: int | None = None) -> PipelineConfig:
        """Returns the pipeline of a day, of a profile whose log lies by day.

        Its run directory is `<run_dir>/<YYYY-MM-DD>`; each day's ingestion is kept beside these, in `<run_dir>/days`.
        Models of all days are pushed to the same place.

        Args:
          span: the day.
          window_days: the days that it trains on; those of `ingest.spans` by default.

        Raises:
          SpecError: if the log does not lie by day, or its split needs more days.
        """
        if not self.ingest.by_day:
            raise SpecError(
                f"the profile `{self.name}` is of one log: `--span` needs `{{DATE}}` or `{{SPAN}}` in the paths of its "
                "`ingest.tables`."
            )
        store = storage.absolute(storage.join(self.run_dir, "days"))
        window = SpanWindow(span=span, days=window_days or self.ingest.spans.window_days, store=store)
        ingest = parse_model(self.ingest.model_dump() | {"window": window.model_dump()}, IngestConfig, f"span {span}")
        changes = {"ingest": ingest, "run_dir": storage.join(self.run_dir, span.isoformat())}
        chosen = self.model_copy(update=changes)
        chosen._home = self.home
        chosen._profile = None if self._profile is None else self._profile.model_copy(update=changes)
        return chosen

    @property
    def profile(self) -> PipelineConfig:
        """The pipeline with all its models, also where only some of them are run (`select_models`)."""
        return self._profile or self

    @property
    def home(self) -> str:
        """The folder of all runs of the profile: `run_dir`, also where a run has a folder of its own in it."""
        return self._home or self.run_dir

    @property
    def cascade_ranker(self) -> str | None:
        """The fine ranker of the cascade; None where none is judged."""
        if self.cascade is None:
            return None
        return self.cascade.ranker or self.models.fine_rankers[0]

    @property
    def num_lanes(self) -> int:
        """How many components run at the same time."""
        return self.lanes or min(2, os.cpu_count() or 1)

    @property
    def replayed_ranker(self) -> str | None:
        """The fine ranker that is replayed before a release; None where none is."""
        if self.replay is None:
            return None
        profile = self.profile
        return self.replay.model or profile.cascade_ranker or next(iter(profile.models.fine_rankers), None)

    @property
    def replays_cascade(self) -> bool:
        """Whether the replayed ranker is so within its cascade."""
        cascade = self.cascade is not None and self.replayed_ranker == self.cascade_ranker
        return self.replay is not None and self.replay.candidate != "ranker" and cascade

    def evaluation_of(self, model: str) -> Strict:
        """Metrics and gates of a model: its own, or those of all rankers."""
        return getattr(self.models[model], "evaluation", None) or self.evaluation

    @property
    def pipeline_root(self) -> str:
        """Where components write their artifacts."""
        return storage.join(self.run_dir, "artifacts")

    @property
    def metadata_path(self) -> str:
        """Where ML Metadata keeps lineage and the cache: the URI of a server, or an SQLite file."""
        return self.metadata or storage.join(self.run_dir, SQLITE_FILE)

    @property
    def timings_path(self) -> str:
        return storage.join(self.run_dir, "timings.json")

    @property
    def log_path(self) -> str:
        return storage.join(self.run_dir, "pipeline.log")

    @property
    def report_dir(self) -> str:
        return storage.join(self.run_dir, "report")

    @property
    def truth_dir(self) -> str:
        """The true click probabilities of a simulated log, which rankers are shown beside; '' for a real one."""
        return storage.absolute(storage.join(self.simulate.out, "truth")) if self.simulate else ""

    def push_dir(self, model: str) -> str:
        """A model's versions. The pipeline is part of the name: two pipelines' models never replace each other."""
        return storage.join(self.serving_dir, f"{self.name}_{model}")

    def tables_dir(self, model: str) -> str:
        """The store of a ranker's bucket tables, with all its versions."""
        return storage.join(self.serving_dir, f"{self.name}_{model}_bse")

    @property
    def profiles_dir(self) -> str:
        """The store of users' profiles, with all its versions."""
        return storage.join(self.serving_dir, f"{self.name}_{PROFILES}")

    @property
    def warm_models(self) -> tuple[str, ...]:
        """The models, of the whole profile, that begin with what the live one learnt."""
        models = self.profile.models
        return tuple(name for name in models.names if models[name].training.warm_start is not None)

    @property
    def profile_length(self) -> int:
        """How many behaviours of a user the models take as they are: a bucket table stands for those that it holds."""
        from models.sdim.config import reads_long_behaviors

        history = self.feature_spec.history
        if history is None:
            return 0
        models = self.profile.models
        whole = any(models.stage(n) == "coarse" or reads_long_behaviors(models[n].parameters) for n in models.names)
        return history.short_length + (history.long_length if whole else 0)

    @property
    def judged_split(self) -> str:
        """The split that evaluators read: no training ever looked at `test`."""
        return "test" if "test" in self.ingest.split.names else "eval"


def load_config(path: storage.AnyPath) -> PipelineConfig:
    """Reads a pipeline configuration and the feature spec that it names.

    Raises:
      SpecError: naming the file, the key and the nearest known key.
    """
    values = read_yaml(path)
    if isinstance(values.get("feature_spec"), str):
        spec = os.path.join(storage.parent(path), values["feature_spec"])
        values["feature_spec"] = load_spec(spec).model_dump()
    return parse_model(values, PipelineConfig, source=os.fspath(path))


def load_profile(path: storage.AnyPath) -> PipelineConfig:
    """Reads the profile that a command names. Raises `NotFoundError` if there is none; else as `load_config`."""
    if not storage.is_file(path):
        raise NotFoundError(f"{path}: no such profile. Profiles are in tfx_config/.")
    return load_config(path)


def select_models(config: PipelineConfig, names: list[str]) -> PipelineConfig:
    """Returns the pipeline with these models and what they rest on: teachers, and the two-tower of their signatures.

    The cascade is judged only where its retrieval and its fine ranker are both asked for.

    Raises:
      SpecError: if a model is not in the profile.
    """
    config.models.only(names)
    selected = list(names)
    for name in selected:  # which grows meanwhile
        selected += [needed for needed in config.models[name].rests_on(config.models) if needed not in selected]
    changes = {"models": config.models.only(selected)}
    if not {changes["models"].cascade_retrieval, config.cascade_ranker} <= set(names):
        changes["cascade"] = None
    chosen = config.model_copy(update=changes)
    chosen._profile = config.profile
    return chosen
