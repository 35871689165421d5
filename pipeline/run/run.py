"""One run from raw logs to report: what `clickmill run` does."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from dataclasses import dataclass
from datetime import datetime, timezone

from features import storage
from pipeline.config import PipelineConfig, load_config, select_models
from pipeline.run.by_node.launch import check_run_id, new_run_id
from pipeline.run.by_node.run_lock import turn_of_run
from pipeline.run.dag import run_dag
from pipeline.run.display import RunDisplay, shown_path
from pipeline.run.examples.gateway_example import GatewayExample, ask_gateway
from pipeline.run.examples.served_example import ServedExample, serve_example
from pipeline.run.lineage import ComponentRun, outputs_by_component
from pipeline.run.outcomes import ModelOutcome, cascade_evaluation, model_outcomes
from pipeline.run.report import write_report
from pipeline.run.run_manifest import load_release, write_manifest

RECOMMEND_FILE = "example_recommend.json"


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
      components: what ran, and what came from the cache.
      models: what became of each model, by name.
      cascade: the `CascadeEvaluation` of the models as one; None where it was not asked for.
      report: the HTML page.
      report_json: the same figures.
      request: the example request as JSON, ranked by the first ranker that was pushed; None if there is none. Beside it
        lies the same without its candidates, for the cascade: `example_recommend.json`.
      served: what the embedded server answered to it; None if there is no request, or no answer.
      gateway: what the gateway answered to it over the embedded server; None likewise, or without a release.
    """

    components: tuple[ComponentRun, ...]
    models: dict[str, ModelOutcome]
    report: str
    report_json: str
    request: str | None
    cascade: object = None
    served: ServedExample | None = None
    gateway: GatewayExample | None = None

    @property
    def cached(self) -> bool:
        """Whether nothing had to be done."""
        return all(component.cached for component in self.components)


def run_pipeline(
    config: PipelineConfig | storage.AnyPath,
    display: RunDisplay | None = None,
    models: list[str] | None = None,
    run_id: str | None = None,
) -> RunResult:
    """Simulates the log if asked to, runs the DAG, ranks one request with the pushed model and writes the report.

    Last, the embedded server answers that request over REST, and over that server the gateway.

    Args:
      config: the pipeline, or the path of its YAML.
      display: where progress and results are shown; the terminal by default.
      models: only these of its models, and what they rest on.
      run_id: of the run: one that did not come to its end goes on. By default a run of its own.

    Raises:
      SpecError: for a configuration that cannot be used.
      BusyError: if another run of this pipeline is under way.
      NothingNewError: if a component found nothing to do.
      PipelineFailed: if a component failed; its message names it.
      ClickmillError: if the example request could not be ranked or served; the report is written by then.
    """
    config = config if isinstance(config, PipelineConfig) else load_config(config)
    display = display or RunDisplay()
    silence_imports()
    if models is not None:
        config = select_models(config, models)
    run_id = check_run_id(run_id or new_run_id())
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    with contextlib.ExitStack() as held:
        held.callback(display.close)
        held.enter_context(turn_of_run(config.home, run_id))
        make_log(config, display)
        display.working("TFX")
        components = run_dag(config, display.progress, run_id)
        return finish_run(config, components, display, started, time.perf_counter() - clock)


def finish_run(
    config: PipelineConfig, components: list[ComponentRun], display: RunDisplay, started: datetime, seconds: float
) -> RunResult:
    """Does what comes after the components: the example request, the manifest, the report, a trial on both servers.

    Args:
      config: the pipeline.
      components: all of it, done.
      display: where results are shown.
      started: when the run began.
      seconds: how long its components took.

    Raises:
      ClickmillError: if the example request could not be ranked or served; the report is written by then.
    """
    failures: list[Exception] = []
    display.working("Report")
    outcomes = model_outcomes(config, components)
    # What was pushed is pushed: an example that cannot be ranked must not cost the report and the manifest.
    example = None
    try:
        example = _rank_example(config, components, outcomes, display)
    except Exception as error:  # Of whatever kind: it ends the run below, once all else is written.
        failures.append(_told(error, "ranked", display))
    manifest = write_manifest(config, components, outcomes)
    ranked = _ranked_path(config) if example else None
    paths = write_report(config, components, outcomes, started, seconds, ranked)
    served = gateway = None
    if example:
        display.working("Serving")
        try:
            served = serve_example(config.run_dir, example.ranker, example.request, example.ranked)
            if manifest.release:
                gateway = ask_gateway(config.run_dir, *load_release(config.run_dir), example.request)
        except Exception as error:  # As above: by now all is written.
            failures.append(_told(error, "served", display))
    display.close()
    cascade = cascade_evaluation(config, components)
    path = example.path if example else None
    result = RunResult(tuple(components), outcomes, paths.html, paths.json, path, cascade, served, gateway)
    _show_result(result, config, display.line)
    if cascade is not None:
        _show_cascade(cascade, display.line)
    if manifest and manifest.release:
        _show_release(config, bool(example), display.line)
    if served is not None:
        _show_served(served, display.line)
    if gateway is not None:
        _show_gateway(gateway, display.line)
    if failures:
        raise failures[0]
    return result


def _told(error: Exception, what: str, display: RunDisplay) -> Exception:
    """Shows that the example request could not be ranked, or served."""
    from rich.markup import escape

    display.line(f"[red]the example request could not be {what}[/]: {escape(str(error))}")
    return error


def silence_imports() -> None:
    """Keeps TensorFlow's start-up notes and Google's notes on Python versions off the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # without a GPU it starts with three lines marked as errors
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\..*")


def make_log(config: PipelineConfig, display: RunDisplay) -> None:
    """Simulates the log, where it is to be, unless the very same is there: then its files, and the cache, stay."""
    if config.simulate is None:
        return
    from features.datasets.simulator.marketplace import SimulationSummary, simulate

    out = config.simulate.out
    summary = storage.join(out, "summary.json")
    if storage.is_file(summary):
        earlier = SimulationSummary.model_validate_json(storage.read_text(summary))
        if earlier.config == config.simulate.log:
            display.line(f"[dim]simulated log in {out}: kept[/]")
            return
    started = time.perf_counter()
    display.working("Simulating")
    made = simulate(config.simulate.log, out)
    display.line(f"simulated {made.impression_rows:,} impressions in {time.perf_counter() - started:.1f} s: {out}")


def _ranked_path(config: PipelineConfig) -> str:
    return storage.join(config.run_dir, "ranked_example.json")


@dataclass(frozen=True)
class _Example:
    """The example request: its file, itself, and how the pushed ranker ranked it."""

    path: str
    request: dict
    ranker: object
    ranked: list


def _rank_example(config: PipelineConfig, components, outcomes, display: RunDisplay) -> _Example | None:
    """Ranks the first request of the judged split with the first pushed ranker, from raw values."""
    from features.examples.raw_sample import json_request, read_requests
    from serving.ranker import Ranker

    name = next((name for name in config.models.rankers if outcomes[name].pushed), None)
    if name is None:
        return None
    ingest = outputs_by_component(components)["LogIngest"]
    tables = read_requests(ingest["examples"], ingest["behaviors"], config.feature_spec, config.judged_split, 1)
    if not tables:
        return None
    request = json_request(tables[0].to_pylist()[0], config.feature_spec)
    path = storage.join(config.run_dir, "example_request.json")
    _write_json(path, request)
    open_request = {part: values for part, values in request.items() if part != "candidates"}
    _write_json(storage.join(config.run_dir, RECOMMEND_FILE), open_request)
    ranker = Ranker(outcomes[name].pushed)
    ranked = ranker.rank(request)
    _write_json(_ranked_path(config), [{"item": item.item_id, "score": item.score} for item in ranked])
    best = ", ".join(f"{item.item_id} ({item.score:.3f})" for item in ranked[:5])
    display.line(f"request {request['request_id']}, {len(ranked)} candidates ranked by the pushed {name}: {best} …")
    return _Example(path, request, ranker, ranked)


def _show_result(result: RunResult, config: PipelineConfig, say) -> None:
    for name, outcome in result.models.items():
        line = _retrieval_line if config.models.stage(name) == "retrieval" else _ranking_line
        say(f"{name}: {line(outcome)}")
        if outcome.pushed:
            say(f"  [green]blessed[/] and pushed: {shown_path(outcome.pushed)}")
            if outcome.tables:
                size = f"{outcome.tables['users']:,} users, {outcome.tables['record_bytes']:,} bytes each"
                say(f"  bucket tables of {size}: {shown_path(outcome.tables_dir)}")
        elif outcome.blessed:
            failed = outcome.serving.failed_gates if outcome.serving else ()
            say(f"  [yellow]cannot be served[/], not pushed; gates failed: {', '.join(gate.name for gate in failed)}")
        else:
            say(f"  [yellow]not blessed[/], not pushed; gates failed: {', '.join(outcome.failed_gates)}")
    ranked = next((result.models[name] for name in config.models.rankers if result.models[name].pushed), None)
    if result.request and ranked:
        model, request = shown_path(storage.parent(ranked.pushed)), shown_path(result.request)
        say(f"  clickmill rank --model {model} --request {request}")
    say(f"report: {shown_path(result.report)}")


def _show_release(config: PipelineConfig, request: bool, say) -> None:
    releases, release = load_release(config.run_dir)
    kept = [model.name for model in release.models if model.kept]
    say(f"release {release.id}: {len(release.models)} models" + (f", as before: {', '.join(kept)}" if kept else ""))
    if request and release.cascade:
        further = shown_path(storage.join(config.run_dir, RECOMMEND_FILE))
        say(f"  clickmill recommend --run {shown_path(config.run_dir)} --request {further}")
    if "stable" not in releases.labels():
        say(f"  clickmill release promote {release.id} --root {shown_path(releases.root)}")


def _show_served(served: ServedExample, say) -> None:
    say(f"embedded server, over REST: {served.model} scores {served.item} {served.score:.6f}, as in this process")
    say(f"  make serve, and: {served.curl}")


def _show_gateway(gateway: GatewayExample, say) -> None:
    listed = ", ".join(f"{item.item_id} ({item.score:.3f})" for item in gateway.answer.items[:5])
    say(f"gateway over the embedded server, {gateway.path}: {listed} …")
    say(f"  make serve, and: {gateway.curl}")
    say(f"  its page: {gateway.page}")


def _show_cascade(cascade, say) -> None:
    say(cascade.headline)
    if cascade.failed_gates:
        say(f"  [yellow]gates failed[/]: {', '.join(gate.name for gate in cascade.failed_gates)}")


def _ranking_line(outcome: ModelOutcome) -> str:
    evaluation = outcome.evaluation
    auc, log_loss = evaluation.model.metrics["auc"], evaluation.model.metrics["log_loss"]
    line = f"AUC {auc.value:.4f}, log loss {log_loss.value:.4f}"
    for baseline in evaluation.baselines:
        line += f"; {baseline.name} AUC {baseline.metrics['auc'].value:.4f}"
    if evaluation.lead_share is not None and evaluation.lead_share.value is not None:
        line += f"; {evaluation.lead_share.value:.0%} of the oracle's lead over item_ctr"
    return line


def _retrieval_line(outcome: ModelOutcome) -> str:
    evaluation = outcome.evaluation
    metric = f"recall@{max(evaluation.ks)}"
    if not evaluation.takes["all"]:
        return f"{metric}: no take to judge by"
    parts = [f"{part} {row[metric]:.4f}" for part, row in evaluation.model.slices.items() if row[metric] is not None]
    of_popularity = evaluation.popularity.slices["all"][metric]
    return f"{metric} of {evaluation.items:,} items: {', '.join(parts)}; popularity {of_popularity:.4f}"


def _write_json(path: str, value) -> None:
    storage.write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
