"""Raw logs to a pushed model, through the whole pipeline, on a small simulated log."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from features.ingest.counts import IngestCounts
from pipeline.cli.app import app
from pipeline.run.dag import PipelineFailed
from pipeline.run.lineage import component_runs, outputs_by_component
from pipeline.run.run import run_pipeline
from serving.release.contents import problems_of
from serving.release.registry import Releases
from tests.e2e.small_run import IMPRESSIONS, MODELS, make_config

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@pytest.fixture(scope="module")
def root(small_run_root):
    return small_run_root


@pytest.fixture(scope="module")
def first(small_run):
    return small_run


@pytest.fixture(scope="module")
def outputs(first):
    return outputs_by_component(first.components)


def test_every_component_ran_and_the_models_are_blessed_and_pushed(first, root):
    assert {run.state for run in first.components} == {"COMPLETE"}
    assert len(first.components) == 41
    assert list(first.models) == ["two_tower", "autoint", "aw_moe", "retrieval", "hcn"]
    for name, outcome in first.models.items():
        assert outcome.blessed, (name, outcome.failed_gates)
        pushed = Path(outcome.pushed)
        assert pushed.parent == root / "serving" / f"e2e_{name}"
        assert (pushed / "saved_model.pb").is_file()
        assert (pushed / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0
    judged = [f"RetrievalEvaluator.{name}" for name in ("two_tower", "retrieval")]
    judged += [f"RankingEvaluator.{name}" for name in ("autoint", "aw_moe", "hcn")]
    for component in judged:
        blessing = next(run for run in first.components if run.component == component)
        assert blessing.properties["blessing"]["blessed"] == 1
        assert (Path(blessing.outputs["blessing"]) / "BLESSED").is_file()


def test_signatures_are_those_of_the_two_tower_in_the_catalogue_s_order(first, outputs):
    from features.items.catalogue import read_catalogue
    from features.items.signatures import ItemSignatures
    from serving.export.item_embeddings import embeddings_to_sign, read_item_embeddings

    raw = read_catalogue(outputs["LogIngest"]["examples"])
    encoded = read_catalogue(outputs["FeatureEncoder"]["encoded_examples"])
    signatures = ItemSignatures.load(Path(outputs["BehaviorSignatures"]["signatures"]) / "Format-Serving")
    ids, embeddings = read_item_embeddings(embeddings_to_sign(first.models["two_tower"].pushed))
    assert raw["item_id"].to_pylist() == encoded["_item_id"].to_pylist() == ids.to_pylist()
    assert signatures.item_ids.equals(ids)
    assert (signatures.sign(embeddings) == signatures.signatures).all()
    noted = next(run for run in first.components if run.component == "BehaviorSignatures").properties["signatures"]
    assert noted["occupancy_entropy"] == pytest.approx(signatures.occupancy_entropy())
    assert 0 < noted["occupancy_entropy"] <= noted["max_entropy"] == 3


def test_the_store_holds_the_long_histories_of_the_pushed_ranker(first, outputs, root):
    """A user's table from the store ranks as the history itself does."""
    from features.examples.raw_sample import json_request
    from features.histories.windows import attach_histories, read_behaviors
    from features.items.catalogue import read_catalogue
    from serving.ranker import Ranker
    from serving.saved.signature_specs import HistoryInputs
    from serving.user_stores.bse.store import BseStore

    pushed = Path(first.models["autoint"].pushed)
    built = json.loads((Path(outputs["BehaviorTables.autoint"]["tables"]) / "behavior_tables.json").read_text())
    spec = make_config(root).feature_spec
    checked = 0
    with BseStore(root / "serving" / "e2e_autoint_bse", HistoryInputs.load(pushed).version) as store:
        assert len(store) == built["users"] > 50 and store.verify().num_faults == 0
        without, with_store = Ranker(pushed), Ranker(pushed, tables=store.get)
        items = read_catalogue(outputs["LogIngest"]["examples"]).slice(0, 7).to_pydict()
        for path in sorted(Path(outputs["LogIngest"]["examples"]).glob("Split-test/*.parquet")):
            requests = pq.read_table(path)
            behaviors = read_behaviors(outputs["LogIngest"]["behaviors"], path, spec.history)
            # A request of the store's time: its history is all that the user ever did.
            lengths = [len(row) for row in behaviors["item_id"].to_pylist()]
            ends = [lengths[user] if user >= 0 else 0 for user in requests["user_index"].to_pylist()]
            now = requests.set_column(requests.column_names.index("history_end"), "history_end", [ends])
            times = [store.header["as_of"]] * len(now)
            now = now.set_column(now.column_names.index("timestamp"), "timestamp", [times])
            for row in attach_histories(now, behaviors, spec.history).slice(0, 10).to_pylist():
                request = json_request(row, spec)
                request["candidates"] = [
                    dict(zip(items, values, strict=True)) for values in zip(*items.values(), strict=True)
                ]
                expected = {item.item_id: item.score for item in without.rank(request)}
                # Only the short history is read of the request where there is a store.
                found = {item.item_id: item.score for item in with_store.rank(request)}
                assert found == pytest.approx(expected, abs=1e-5)
                checked += len(request["history"]) > spec.history.short_length
    assert checked > 10


def test_every_row_is_accounted_for_and_bad_rows_keep_their_reason(outputs, root):
    counts = IngestCounts.load(outputs["LogIngest"]["examples"])
    counts.check_balance()
    impressions = counts.tables["impressions"]
    planted = json.loads((root / "log" / "summary.json").read_text())["bad_rows"]
    assert impressions.rows_in == IMPRESSIONS + sum(planted.values())
    assert impressions.dead_letters > 0 and impressions.duplicates == planted["duplicate_impression"]
    letters = pq.read_table(outputs["LogIngest"]["dead_letters"]).to_pydict()
    of_impressions = [r for t, r in zip(letters["table"], letters["reason"], strict=True) if t == "impressions"]
    assert {reason: of_impressions.count(reason) for reason in set(of_impressions)} == impressions.reasons


def test_the_pushed_model_ranks_the_raw_request_as_the_evaluation_scored_it(first, outputs):
    from serving.ranker import Ranker

    request = json.loads(Path(first.request).read_text())
    ranked = Ranker(Path(first.models["autoint"].pushed).parent).rank(request)
    assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)
    predictions = pq.read_table(Path(outputs["RankingEvaluator.autoint"]["evaluation"]) / "predictions.parquet")
    rows = predictions.to_pandas().query("request_id == @request['request_id']")
    expected = dict(zip(rows["item_id"], rows["score"], strict=True))
    assert len(ranked) == len(request["candidates"]) == len(expected)
    assert {item.item_id: item.score for item in ranked} == pytest.approx(expected, abs=1e-6)


def test_the_report_tells_the_run(first, outputs):
    report = json.loads(Path(first.report_json).read_text())
    assert report["run"]["simulated"] and report["pushed_version"] == Path(first.models["autoint"].pushed).name
    assert [timing["component"] for timing in report["timings"]] == [run.component for run in first.components]
    assert all(timing["peak_rss_mb"] > 100 for timing in report["timings"] if timing["seconds"] > 1)
    assert {scores["name"] for scores in report["evaluation"]["baselines"]} == {"popularity", "item_ctr", "oracle"}
    assert len(report["training"]["epochs"]) >= 1
    own = json.loads((Path(outputs["RankingEvaluator.autoint"]["evaluation"]) / "evaluation.json").read_text())
    assert report["evaluation"] == own and own["lead_share"]["value"] is not None
    assert "<html" in Path(first.report).read_text()
    assert [retriever["name"] for retriever in report["retrievers"]] == ["SSL two-tower", "Distilled two-tower"]
    own = report["retrievers"][0]
    assert own["evaluation"]["items"] == report["signatures"]["items"] == 1_000
    assert own["evaluation"]["model"]["slices"]["all"]["recall@100"] > 0.1
    titles = ["SSL two-tower", "AutoInt", "AW-MoE", "Distilled two-tower", "HCN", "Cascade"]
    assert sorted(model["name"] for model in report["verdicts"]) == sorted(titles)
    assert all(model["live"]["reason"] for model in report["verdicts"])  # of a first run, none can be compared
    stages = report["stages"]
    assert (stages["coarse"], stages["fine"]) == ("HCN", "AutoInt")
    assert stages["rows"] == report["evaluation"]["counts"]["rows"]
    assert stages["metrics"]["auc"]["fine"] == pytest.approx(report["evaluation"]["model"]["metrics"]["auc"]["value"])
    assert Path(first.report).stat().st_size < 1_500_000
    assert len(own["training"]["epochs"]) == 2 and own["pushed_version"] == Path(first.models["two_tower"].pushed).name
    assert report["behavior_tables"]["users"] > 50 and report["behavior_tables"]["record_bytes"] > 16_384


def test_the_cascade_is_judged_as_one(first, outputs, root):
    from evaluation.cascade.evaluate import CascadeEvaluation
    from evaluation.cascade.scores import CascadeScores, select
    from serving.cascade import Cascade

    directory = Path(outputs["CascadeEvaluator"]["evaluation"])
    result = CascadeEvaluation.load(directory)
    assert first.cascade == result and result.ranker == "autoint" and result.requests == 40
    assert result.items == 1_000 and result.blessed
    assert result.chosen.coarse == 50 and 0.3 < result.chosen.metrics["ndcg"].value < 1
    kept = {(point.retrieve, point.coarse): point.metrics["ndcg"].value for point in result.curves}
    assert {(n1, n2) for n1 in (50, 100, 400) for n2 in (20, 50)} <= set(kept)
    assert kept[50, 20] <= kept[50, 50] and kept[400, 20] <= kept[400, 50]  # the fine ranker sees more
    assert set(result.chosen.seconds) == {"retrieve", "coarse", "fine"} and result.chosen.cost_share > 0
    lists = ["random_list", "popularity", "one_list", "random_fine", "retrieval_alone", "coarse_alone"]
    assert list(result.references) == lists
    assert all(0 < found["ndcg"].low <= found["ndcg"].high <= 1.0 for found in result.references.values())
    report = json.loads(Path(first.report_json).read_text())
    assert CascadeEvaluation.model_validate(report["cascade"]) == result
    # The scores are kept: other sizes can be looked at without scoring again.
    table = pq.read_table(directory / "scores.parquet")
    selection = select(CascadeScores.from_table(table, result.items), 70, 30, 10)
    assert selection.listed.shape == (40, 10)
    # The request of the run goes through the pushed models and the store.
    request = json.loads((root / "run" / "example_recommend.json").read_text())
    pushed = {name: Path(outcome.pushed).parent for name, outcome in first.models.items()}
    items = Path(outputs["LogIngest"]["examples"]) / "catalogue" / "items.parquet"
    store = root / "serving" / "e2e_autoint_bse"
    cascade = Cascade.load(pushed["two_tower"], pushed["autoint"], items, coarse=pushed["hcn"], tables=store)
    listed = cascade.recommend(request, explain=True)
    assert len(listed) == 10 and len(listed[0].attention) == 5
    assert [item.stages["fine"].rank for item in listed] == list(range(1, 11))


def released_id(result) -> str:
    """The release that a run made."""
    (pusher,) = (run for run in result.components if run.component == "ReleasePusher")
    return pusher.properties["release"]["release"]


def test_the_run_s_manifest_is_enough_to_recommend(first, outputs, root):
    """`recommend --run` answers as the models do that are named one by one; flags win over the manifest."""
    manifest = json.loads((root / "run" / "manifest.json").read_text())
    assert list(manifest["models"]) == ["two_tower", "autoint", "aw_moe", "retrieval", "hcn"]
    assert [model["stage"] for model in manifest["models"].values()] == [
        "retrieval",
        "fine",
        "fine",
        *("retrieval", "coarse"),
    ]
    assert manifest["models"]["autoint"] == {
        "kind": "autoint",
        "stage": "fine",
        "directory": "../serving/e2e_autoint",
        "version": Path(first.models["autoint"].pushed).name,
        "tables": "../serving/e2e_autoint_bse",
    }
    assert manifest["release"] == f"../serving/releases/{released_id(first)}.json"
    items = Path(outputs["LogIngest"]["examples"]) / "catalogue" / "items.parquet"
    named = {
        "--two-tower": first.models["retrieval"].pushed,
        "--coarse": first.models["hcn"].pushed,
        "--ranker": first.models["autoint"].pushed,
        "--tables": root / "serving" / "e2e_autoint_bse",
        "--items": items,
        "--retrieve": 100,
        "--pass": 50,
    }

    def recommended(*arguments):
        request = root / "run" / "example_recommend.json"
        result = CliRunner().invoke(app, ["recommend", "-r", str(request), "--json", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    answer = recommended("--run", root / "run")
    assert answer == recommended(*(part for pair in named.items() for part in pair)) and len(answer["items"]) == 10
    assert recommended("--root", root / "serving", "--release", released_id(first)) == answer
    other = recommended("--run", root / "run", "--ranker", first.models["aw_moe"].pushed, "-k", 3)
    assert other["ranker"] == first.models["aw_moe"].pushed and len(other["items"]) == 3


def test_the_release_names_what_was_pushed_after_it(first, outputs, root):
    """Tables are there before their ranker, a ranker before the release, and all of it is whole."""
    releases = Releases(root / "serving")
    release = releases.get(released_id(first))
    assert problems_of(releases, release) == [] and release.pipeline == "e2e" and releases.labels() == {}
    assert {model.name: str(model.version) for model in release.models} == {
        f"e2e_{name}": Path(outcome.pushed).name for name, outcome in first.models.items()
    }
    assert {tables.model: tables.version for tables in release.tables} == {
        f"e2e_{name}": first.models[name].tables["version"] for name in ("autoint", "aw_moe")
    }
    assert release.cascade_models == {"retrieval": "e2e_retrieval", "coarse": "e2e_hcn", "fine": "e2e_autoint"}
    assert (release.cascade.retrieve, release.cascade.coarse, release.cascade.top_k) == (100, 50, 10)
    auc = first.models["autoint"].evaluation.model.metrics["auc"].value
    assert release.metrics["e2e_autoint"]["auc"] == auc and release.data
    items = Path(outputs["LogIngest"]["examples"]) / "catalogue" / "items.parquet"
    assert (root / "serving" / release.catalogue).read_bytes() == items.read_bytes()
    ran = {run.component: run for run in first.components}
    for name in ("autoint", "aw_moe"):
        assert ran[f"BehaviorTables.{name}"].finished <= ran[f"Pusher.{name}"].started
    pushed = max(run.finished for run in first.components if run.component.startswith("Pusher."))
    assert ran["ReleasePusher"].started >= pushed


def test_the_same_run_again_does_nothing(first, small_run_again, root):
    again = small_run_again
    assert again.cached, [(run.component, run.state) for run in again.components]
    for name, outcome in first.models.items():
        assert again.models[name].pushed == outcome.pushed
        assert len(list(Path(outcome.pushed).parent.iterdir())) == 1
    started = min(run.started for run in again.components)
    # LMDB's lock file is written by whoever reads.
    files = [path for path in (root / "serving" / "e2e_autoint_bse").rglob("*") if path.name != "lock.mdb"]
    assert len(files) > 3 and all(path.lstat().st_mtime < started for path in files)
    # What the first run measured stays in the report.
    assert (
        json.loads(Path(again.report_json).read_text())["timings"]
        == json.loads(Path(first.report_json).read_text())["timings"]
    )


def test_tables_are_not_built_twice_and_their_loss_is_named(first, outputs, root):
    from pipeline.run.outcomes import model_outcomes
    from serving.user_stores.bse.table_job import build_behavior_tables

    store = root / "serving" / "e2e_autoint_bse"
    arguments = (first.models["autoint"].pushed, outputs["LogIngest"]["behaviors"], store)
    assert build_behavior_tables(*arguments) == {**first.models["autoint"].tables, "built": False}
    aside = store.rename(store.with_name("elsewhere"))
    try:
        with pytest.raises(FileNotFoundError, match="were deleted since. Build them by `clickmill bse build"):
            model_outcomes(make_config(root), first.components)
    finally:
        aside.rename(store)


def test_a_model_that_fails_a_gate_is_not_pushed_and_gets_no_tables(first, root):
    store = root / "serving" / "e2e_autoint_bse"
    current, pushed = (store / "current").readlink(), Path(first.models["autoint"].pushed)
    evaluation = {"slices": {"min_rows": 300}, "gates": {"min_auc": 0.999, "min_positives": 50}}
    refused = run_pipeline(make_config(root, evaluation=evaluation))
    outcome = refused.models["autoint"]
    assert not outcome.blessed and outcome.pushed is None and "min_auc" in outcome.failed_gates
    states = {run.component: run.state for run in refused.components}
    assert states["Trainer.autoint"] == "CACHED" and states["RankingEvaluator.autoint"] == "COMPLETE"
    assert list(pushed.parent.iterdir()) == [pushed]
    assert (store / "current").readlink() == current
    assert json.loads(Path(refused.report_json).read_text())["behavior_tables"] is None
    # The ranker that was not allowed stays as it was released.
    release = Releases(root / "serving").find("latest")
    assert str(release.model("e2e_autoint").version) == pushed.name and release.tables_of("e2e_autoint") is not None


def test_one_model_alone(first, root):
    alone = run_pipeline(make_config(root), models=["two_tower"])
    # A release of a part of the models is another release, if it names anything new.
    assert [run.component for run in alone.components if not run.cached] == ["ReleasePusher"]
    assert list(alone.models) == ["two_tower"] and alone.request is None
    assert Releases(root / "serving").find("latest").model("e2e_autoint") is not None
    report = json.loads(Path(alone.report_json).read_text())
    assert report["run"]["model"] == "SSL two-tower" and report["evaluation"] is None and report["retrievers"]


def test_a_second_two_tower_is_judged_beside_the_live_one(first, root):
    retrieval = {**MODELS["two_tower"], "training": {**MODELS["two_tower"]["training"], "seed": 1}}
    config = make_config(root, models={**MODELS, "two_tower": retrieval})
    outcome = run_pipeline(config, models=["two_tower"]).models["two_tower"]
    before = first.models["two_tower"].evaluation
    assert before.live is None and outcome.evaluation.takes == before.takes
    # The live model finds again what it found as a candidate.
    assert outcome.evaluation.live.slices == before.model.slices
    assert outcome.evaluation.model.slices != before.model.slices
    assert "live_recall" in {gate.name for gate in outcome.evaluation.gates}


def test_anomalies_stop_the_run_before_anything_learns(first, outputs, root):
    reviewed = (Path(outputs["SchemaGen"]["schema"]) / "schema.pbtxt").read_text()
    schema = root / "schema.pbtxt"
    schema.write_text(reviewed.replace('name: "price"', 'name: "price"\n  float_domain {\n    max: 0.5\n  }'))
    config = make_config(root, schema_path=str(schema))
    with pytest.raises(PipelineFailed, match="`AnomalyGate` failed") as failure:
        run_pipeline(config)
    assert failure.value.component == "AnomalyGate"
    assert "feature `price`" in str(failure.value) and "Out-of-range" in str(failure.value)
    last = component_runs(config.metadata_path, config.name)[-1]
    assert (last.component, last.state) == ("AnomalyGate", "FAILED")
