"""One run from raw logs to report: what `clickmill run` does."""

from __future__ import annotations

import json
import os
import time
import warnings
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pipeline.config import PipelineConfig, load_config
from pipeline.display import RunDisplay, shown_path
from pipeline.lineage import ComponentRun, outputs_by_component
from pipeline.runner import run_dag


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
      components: what ran, and what came from the cache.
      blessed: whether the model passed every gate.
      failed_gates: the names of those that it did not.
      pushed: the version directory that holds the model; None if it was not blessed.
      report: the HTML page.
      report_json: the same figures.
      request: the example request as JSON, ranked by the pushed model; None if there is none.
    """

    components: tuple[ComponentRun, ...]
    blessed: bool
    failed_gates: tuple[str, ...]
    pushed: Path | None
    report: Path
    report_json: Path
    request: Path | None

    @property
    def cached(self) -> bool:
        """Whether nothing had to be done."""
        return all(component.cached for component in self.components)


def run_pipeline(config: PipelineConfig | str | Path, display: RunDisplay | None = None) -> RunResult:
    """Simulates the log if asked to, runs the DAG, ranks one request with the pushed model and writes the report.

    Args:
      config: the pipeline, or the path of its YAML.
      display: where progress and results are shown; the terminal by default.

    Raises:
      SpecError: for a configuration that cannot be used.
      PipelineFailed: if a component failed; its message names it.
    """
    config = config if isinstance(config, PipelineConfig) else load_config(config)
    display = display or RunDisplay()
    _silence_imports()
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    try:
        if config.simulate is not None:
            _simulate(config, display)
        display.working("TFX")
        components = run_dag(config, display.progress)
        outputs = outputs_by_component(components)
        display.working("Report")
        evaluation = _evaluation(config, outputs)
        pushed = _pushed(config, components)
        request = _rank_example(config, outputs, pushed, display) if pushed else None
        paths = _report(config, outputs, evaluation, started, time.perf_counter() - clock, pushed)
    finally:
        display.close()
    result = RunResult(
        components=tuple(components),
        blessed=evaluation.blessed,
        failed_gates=tuple(gate.name for gate in evaluation.failed_gates),
        pushed=pushed,
        report=paths.html,
        report_json=paths.json,
        request=request,
    )
    _show_result(result, evaluation, display.line)
    return result


def _silence_imports() -> None:
    """Keeps TensorFlow's start-up notes and Google's notes on Python versions off the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # without a GPU it starts with three lines marked as errors
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\..*")


def _simulate(config: PipelineConfig, display: RunDisplay) -> None:
    """Makes the log unless the very same simulation is there: then its files, and with them the cache, stay."""
    from features.simulator import SimulationSummary, simulate

    out = config.simulate.out
    summary = out / "summary.json"
    if summary.is_file():
        earlier = SimulationSummary.model_validate_json(summary.read_text(encoding="utf-8"))
        if earlier.config == config.simulate.log:
            display.line(f"[dim]simulated log in {out}: kept[/]")
            return
    started = time.perf_counter()
    display.working("Simulating")
    made = simulate(config.simulate.log, out)
    display.line(f"simulated {made.impression_rows:,} impressions in {time.perf_counter() - started:.1f} s: {out}")


def _evaluation(config: PipelineConfig, outputs):
    """The run's evaluation; for a simulated log with the oracle beside, which no component may know."""
    import pyarrow.parquet as pq

    from evaluation.baselines import count_items, oracle
    from evaluation.ranking_evaluator import evaluate
    from evaluation.results import EvaluationResult

    directory = Path(outputs[f"RankingEvaluator.{config.model.name}"]["evaluation"])
    result = EvaluationResult.load(directory)
    truth = config.simulate.out / "truth" if config.simulate else None
    if truth is None or not truth.is_dir():
        return result
    predictions = pq.read_table(directory / "predictions.parquet")
    live = None
    if "live_score" in predictions.column_names:
        live = predictions.drop(["score"]).rename_columns(
            ["score" if name == "live_score" else name for name in predictions.drop(["score"]).column_names]
        )
    items = count_items(outputs["LogIngest"]["examples"], config.feature_spec.label)
    item_id = predictions["item_id"]
    baselines = [items.popularity(item_id), items.click_rate(item_id), oracle(predictions, truth)]
    result = evaluate(predictions, config.evaluation, live_predictions=live, baselines=baselines)
    result.save(config.report_dir)
    return result


def _pushed(config: PipelineConfig, components) -> Path | None:
    """The directory that the model was pushed to, by this run or by the earlier one whose push is cached."""
    (pusher,) = (run for run in components if run.component == f"Pusher.{config.model.name}")
    properties = pusher.properties["pushed_model"]
    if properties.get("pushed") != 1:
        return None
    pushed = Path(str(properties["pushed_destination"]))
    if not pushed.is_dir():
        raise FileNotFoundError(
            f"{pushed}: the model was pushed here by an earlier run and was deleted since. Its archive is "
            f"{pusher.outputs['pushed_model']}: copy it back, or delete {config.run_dir} and run again."
        )
    return pushed


def _rank_example(config: PipelineConfig, outputs, pushed: Path, display: RunDisplay) -> Path | None:
    """Ranks the first request of the evaluated split with the pushed model, from raw values."""
    from pipeline.raw_sample import json_request, read_requests
    from serving.ranker import Ranker

    split = "test" if "test" in config.ingest.split.names else "eval"
    batches = read_requests(Path(outputs["LogIngest"]["examples"]), split, 1)
    if not batches:
        return None
    request = json_request(batches[0].to_pylist()[0], config.feature_spec)
    path = config.run_dir / "example_request.json"
    _write_json(path, request)
    ranked = Ranker(pushed).rank(request)
    _write_json(config.run_dir / "ranked_example.json", [{"item": i.item_id, "score": i.score} for i in ranked])
    best = ", ".join(f"{item.item_id} ({item.score:.3f})" for item in ranked[:5])
    display.line(f"request {request['request_id']}, {len(ranked)} candidates ranked by the pushed model: {best} …")
    return path


def _report(config: PipelineConfig, outputs, evaluation, started, seconds: float, pushed: Path | None):
    from evaluation.report import build_report, collect
    from evaluation.report_data import RunInfo

    name = config.model.name
    evaluation.save(config.report_dir)
    data = collect(
        RunInfo(
            pipeline=config.name,
            spec=config.feature_spec.name,
            model={"autoint": "AutoInt"}[name],
            started=started,
            seconds=seconds,
            simulated=config.simulate is not None,
        ),
        counts=outputs["LogIngest"]["examples"],
        dead_letters=outputs["LogIngest"]["dead_letters"],
        training_history=outputs[f"Trainer.{name}"]["model_run"],
        evaluation=config.report_dir,
        timings=config.timings_path,
        ranked_example=config.run_dir / "ranked_example.json" if pushed else None,
        pushed_version=pushed.name if pushed else None,
    )
    return build_report(data, config.report_dir)


def _show_result(result: RunResult, evaluation, say) -> None:
    auc, log_loss = evaluation.model.metrics["auc"], evaluation.model.metrics["log_loss"]
    line = f"AUC {auc.value:.4f}, log loss {log_loss.value:.4f}"
    for baseline in evaluation.baselines:
        line += f"; {baseline.name} AUC {baseline.metrics['auc'].value:.4f}"
    if evaluation.lead_share is not None and evaluation.lead_share.value is not None:
        line += f"; {evaluation.lead_share.value:.0%} of the oracle's lead over item_ctr"
    say(line)
    if result.pushed:
        say(f"[green]blessed[/] and pushed: {shown_path(result.pushed)}")
        if result.request:
            say(f"  clickmill rank --model {shown_path(result.pushed.parent)} --request {shown_path(result.request)}")
    else:
        say(f"[yellow]not blessed[/], not pushed; gates failed: {', '.join(result.failed_gates)}")
    say(f"report: {shown_path(result.report)}")


def _write_json(path: Path, value) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)
