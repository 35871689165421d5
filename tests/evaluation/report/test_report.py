"""The run report: page and JSON agree, nothing is loaded, nothing from the data runs, missing parts are named."""

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.report import format as report_format
from evaluation.report import page as report
from evaluation.report.collect import collect, installed_versions, sample_dead_letters
from evaluation.report.data import (
    DeadLetter,
    ExampleItem,
    ReportData,
    RunInfo,
)
from evaluation.report.figures import all_figures, row_account
from evaluation.report.plots import slug
from features import storage
from features.ingest.counts import TableCounts
from tests.builders.report_example import (
    TIMINGS,
    counts,
    estimate,
    evaluation,
    report_data,
    training,
)
from tests.evaluation.report.page_reader import Page

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>'\"&{{7*7}}"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    data = report_data()
    paths = report.build_report(data, tmp_path_factory.mktemp("report"))
    return data, paths, Page(Path(paths.html).read_text(encoding="utf-8"))


def test_json_reads_back_as_the_same_report(built):
    data, paths, page = built
    written = Path(paths.json).read_text(encoding="utf-8")
    assert ReportData.model_validate_json(written) == data.with_absences()
    assert page.blocks["report-data"] == json.loads(written)


def test_page_shows_what_serving_each_model_has_shown(built):
    _, _, page = built
    assert "6.0e−08" in page.words
    assert "41.7 ms" in page.words and "120/s" in page.words and "✓ can be served" in page.words
    assert "p99_ms : 300 calls by 4 clients of `retrieve`: p99 is 1312.0 ms." in page.words.replace(
        "p99_ms:", "p99_ms :"
    )
    assert "Serving: no model was served for a trial." in report_data(served=()).with_absences().absent


def test_page_shows_retrieval_and_long_histories(built):
    data, _, page = built
    both = [retriever.evaluation for retriever in data.retrievers]
    assert "13 takes of other items are left out" in page.words
    assert both[0].live is not None and both[1].live is None
    for scores in (
        each for retrieval in both for each in (retrieval.model, retrieval.popularity, retrieval.live) if each
    ):
        for row in scores.slices.values():
            for value in row.values():
                assert report_format.metric(value) in page.words
    for gate in (gate for retrieval in both for gate in retrieval.gates):
        assert gate.name in page.words and gate.reason in page.words
    assert "MAP@10" in page.words and "SSL two-tower: 3 epochs" in page.words
    assert "SSL two-tower: pushed as version 1762" in page.words and "Distilled two-tower: not pushed" in page.words
    assert "2.8713of 3 bits" in page.words and "mean embedding subtracted" in page.words
    assert "6,812of 7,000; 14,211 behaviours" in page.words and "17,408 Bfp32; all tables 113 MB" in page.words


def test_page_compares_rankers_where_there_are_several(built):
    data, _, page = built
    other = data.rankers[1]
    for text in ("Rankers", "AW-MoE", "version 1763", report_format.metric(other.metrics["auc"].value)):
        assert text in page.words
    for ranker in data.rankers:  # in the table, and beside the curves
        assert page.words.count(report_format.count(ranker.training.parameters)) == 2
    alone = Page(report.render(report_data(rankers=data.rankers[:1])))
    assert "99,001" not in alone.words and not alone.section("rankers")


def test_page_shows_the_figures_of_the_json(built):
    data, _, page = built
    model = data.evaluation.model
    for scores in (model, *data.evaluation.baselines):
        for value in scores.metrics.values():
            assert report_format.metric(value.value) in page.words
            assert report_format.interval(value) in page.words
    for table in data.counts.tables.values():
        for rows in (table.rows_in, table.kept, table.duplicates, table.dead_letters, table.immature):
            assert f"{rows:,}" in page.words
    for gate in data.evaluation.gates:
        assert gate.reason in page.words
    for entry in data.ranked_example:
        assert str(entry.item) in page.words
    assert "✗ Not blessed" in page.words and "1 of 6 gates failed" in page.words
    assert "56.91%" in page.words and "epoch 3 were kept" in page.words


def test_figures_hold_the_same_numbers(built):
    data, _, page = built
    figures = {figure.id: figure for part in all_figures(data).values() for figure in part}
    model = data.evaluation.model.metrics["auc"]
    dots = figures["metric-auc"].marks[0]
    assert dots.x[0] == model.value and dots.spans[0] == (model.low, model.high)
    assert figures[f"log-loss-{slug('AutoInt')}"].marks[2].y == [epoch.val_log_loss for epoch in data.training.epochs]
    assert figures[f"log-loss-{slug('AutoInt')}"].marks[0].x == data.training.best_epoch
    assert [end for _, end in figures["seconds"].marks[0].x] == [part.seconds for part in TIMINGS]
    rows = figures["reliability"].panels[1].marks[0]
    assert [high for _, high in rows.y] == [bin.rows for bin in data.evaluation.reliability]
    shown = [value for part in figures.values() if part.id.startswith("slice-") for value in part.marks[-1].x]
    assert shown == [part.metrics["auc"].value for part in data.evaluation.slices]
    # What is drawn says the figures to who points at them.
    assert f"This model {report_format.metric(model.value)}" in "".join(page.figures["metric-auc"])


def test_every_figure_has_its_place_and_a_description(built):
    data, _, page = built
    places = {attrs["id"]: attrs for _, attrs in page.tags if attrs.get("id", "").startswith("figure-")}
    assert set(places) == {f"figure-{figure.id}" for part in all_figures(data).values() for figure in part}
    assert all(place["role"] == "img" and len(place["aria-label"]) > 20 for place in places.values())
    drawn = [tag for tag, attrs in page.tags if tag == "svg" and attrs.get("class") == "chart"]
    assert len(drawn) == len(places)


def test_the_losses_that_were_trained_with_it_stand_beside_the_curves(built):
    data, _, page = built
    losses = figure_of(data, f"contrastive_loss-{slug('AW-MoE')}").marks[-1].y
    assert losses == [epoch.losses["contrastive_loss"] for epoch in data.rankers[1].training.epochs]
    assert "Contrastive loss" in page.words and "1.2323" in page.words
    of_retrieval = figure_of(data, f"ssl_loss-{slug('SSL two-tower')}").marks[-1].y
    assert of_retrieval == [epoch.losses["ssl_loss"] for epoch in data.retrievers[0].training.epochs]
    assert "SSL loss" in page.words and "2.0123" in page.words
    alone = Page(report.render(report_data(rankers=(), retrievers=())))
    assert "Contrastive loss" not in alone.words and "Validation AUC" in alone.words


def figure_of(data, identifier):
    (found,) = (figure for part in all_figures(data).values() for figure in part if figure.id == identifier)
    return found


def test_a_page_is_small_and_says_all_without_a_script(built):
    """Plotly alone took 4.8 of a page's 5.0 MB."""
    _, paths, page = built
    assert Path(paths.html).stat().st_size < 400_000
    assert not page.blocks.keys() - {"report-data"}


def test_nothing_is_loaded_from_anywhere(built):
    _, _, page = built
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe-inline" not in policy.split("style-src")[0]
    style = report.base_style() + report._asset("report.css")
    assert "url(" not in style and "@import" not in style
    assert sum(tag == "script" for tag, _ in page.tags) == 2  # the data, and the page's own


def test_waterfall_walks_from_rows_in_to_rows_kept():
    table = TableCounts(rows_in=100, kept=80, duplicates=9, dead_letters=6, immature=5, reasons={"bad_value": 6})
    bars = row_account("impressions", table).marks[0]
    assert bars.x == [(0, 100), (91, 100), (85, 91), (80, 85), (0, 80)]


def test_orphan_clicks_are_told_from_other_dead_letters():
    table = counts().tables["clicks"]
    figure = row_account("clicks", table)
    (panel,) = figure.panels
    rows = [end - start for start, end in panel.marks[0].x]
    parts = dict(zip([text for _, text in panel.y.ticks], rows, strict=True))
    assert parts["− orphans"] == 114 and parts["− dead letters"] == 3 and parts["− late"] == 588
    assert parts["rows in"] == sum(rows for name, rows in parts.items() if name != "rows in")


def test_a_balance_that_is_off_is_said():
    off = counts().tables | {"users": TableCounts(rows_in=10, kept=7)}
    page = Page(report.render(report_data(counts=counts().model_copy(update={"tables": off}))))
    assert "✗ off by 3" in page.words
    assert page.words.count("✓ exact") == 3


def test_what_should_be_looked_at_is_shown():
    tables = counts().tables
    tables["impressions"] = tables["impressions"].model_copy(update={"merged": 407, "differing": 1_023})
    odd = {"tables": tables, "warnings": ("`clicks`: 2 files were passed over.",), "missing": {"price": 4_711}}
    page = Page(report.render(report_data(counts=counts().model_copy(update=odd))))
    for words in ("407", "1,023", "`clicks`: 2 files were passed over.", "Missing values of 1 features", "4,711"):
        assert words in page.words, words


def test_hostile_text_stays_text():
    result = evaluation()
    slices = (result.slices[0].model_copy(update={"feature": HOSTILE, "value": HOSTILE}),)
    gates = (result.gates[0].model_copy(update={"name": HOSTILE, "reason": HOSTILE}),)
    data = report_data(
        run=RunInfo(pipeline=HOSTILE, spec=HOSTILE, model=HOSTILE, versions={HOSTILE: HOSTILE}),
        evaluation=result.model_copy(update={"slices": slices, "gates": gates}),
        dead_letter_sample=(DeadLetter(table=HOSTILE, reason=HOSTILE, detail=HOSTILE, row=HOSTILE, source=HOSTILE),),
        ranked_example=(ExampleItem(item=HOSTILE, score=0.5),),
        timings=(TIMINGS[0].model_copy(update={"component": HOSTILE}),),
        pushed_version=HOSTILE,
    )
    page = Page(report.render(data))
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.tags)
    assert HOSTILE in page.words and "49" not in re.findall(r"\{\{.*?\}\}|&49", page.words)
    assert page.blocks["report-data"]["run"]["pipeline"] == HOSTILE

    assert HOSTILE in "".join(text for texts in page.figures.values() for text in texts)


def test_missing_parts_are_named_and_leave_no_empty_section():
    bare = ReportData(run=RunInfo(pipeline="p", spec="s"))
    page = Page(report.render(bare.with_absences()))
    headings = {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    assert headings == {"about"}
    assert not page.figures
    absent = " ".join(bare.with_absences().absent)
    for part in ("Row counts", "Learning curves", "Time and memory", "Example ranking", "Metrics"):
        assert part in absent and part in page.words


@pytest.mark.parametrize("simulated, why", [(True, "truth was not given"), (False, "logs are real")])
def test_first_model_without_truth(simulated, why):
    result = evaluation(live=False).model_copy(update={"baselines": (), "lead_share": None})
    data = report_data(evaluation=result, run=RunInfo(pipeline="p", spec="s", simulated=simulated)).with_absences()
    assert any("first" in sentence for sentence in data.absent)
    assert any(why in sentence for sentence in data.absent)
    page = Page(report.render(data))
    assert "Beside the live model" not in page.words and "oracle’s lead" not in page.words


def test_live_model_stands_between_model_and_baselines():
    axis = all_figures(report_data())["metrics"][0].panels[0].y
    assert [text for _, text in axis.ticks] == ["This model", "Live model", "Popularity", "Item CTR", "Oracle"]


def test_undefined_numbers_read_as_absent():
    result = evaluation()
    model = result.model.model_copy(update={"metrics": {"auc": estimate(0.7), "gauc_user": {"value": None}}})
    data = ReportData.model_validate(report_data(evaluation=result).model_dump(exclude={"counts"}) | {"counts": None})
    data = data.model_copy(update={"evaluation": result.model_copy(update={"model": type(model)(**dict(model))})})
    page = Page(report.render(data))
    assert "GAUC per user" in page.words and "nan" not in page.words.lower().split()


def test_a_failed_report_leaves_the_old_one_whole(tmp_path, monkeypatch):
    paths = report.build_report(report_data(), tmp_path)
    files = Path(paths.html), Path(paths.json)
    before = [file.read_bytes() for file in files]
    # A disk that fills between writing and renaming.
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    with pytest.raises(OSError, match="No space"):
        report.build_report(report_data(pushed_version="2"), tmp_path)
    assert [file.read_bytes() for file in files] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def write_run(root):
    counts().save(root / "examples")
    evaluation().save(root / "evaluation")
    (root / "training_history.json").write_text(training().model_dump_json())
    (root / "timings.json").write_text(json.dumps([part.model_dump() for part in TIMINGS]))
    (root / "ranked.json").write_text(json.dumps([{"item": 7, "score": 0.5}, {"item": "i8", "score": 0.25}]))
    letters = root / "dead_letters"
    letters.mkdir()
    for shard in range(2):
        reasons = ["bad_timestamp"] * 5 + ["null_item_id"] * (shard + 1)
        columns = {
            "table": ["impressions"] * len(reasons),
            "reason": reasons,
            "detail": [None] + ["why"] * (len(reasons) - 1),
            "row": [f'{{"n": {n}}}' for n in range(len(reasons))],
            "source": [f"file-{shard}"] * len(reasons),
        }
        pq.write_table(pa.table(columns), letters / f"dead_letters-0000{shard}-of-00002.parquet")


def collected(root, **changes):
    paths = {
        "counts": root / "examples",
        "evaluation": root / "evaluation" / "evaluation.json",
        "dead_letters": root / "dead_letters",
        "training_history": root / "training_history.json",
        "timings": root / "timings.json",
        "ranked_example": root / "ranked.json",
    }
    return collect(RunInfo(pipeline="p", spec="s"), **(paths | changes))


def test_collect_reads_what_the_components_left(tmp_path):
    write_run(tmp_path)
    data = collected(tmp_path, pushed_version=17)
    assert data.counts == counts() and data.evaluation == evaluation() and data.training == training()
    assert data.timings == TIMINGS and data.pushed_version == "17"
    assert [entry.item for entry in data.ranked_example] == [7, "i8"]
    assert [letter.reason for letter in data.dead_letter_sample] == ["bad_timestamp"] * 3 + ["null_item_id"] * 3
    assert data.run.versions == installed_versions() and "python" in data.run.versions


def test_a_run_on_an_object_store_is_collected_and_reported(tmp_path):
    write_run(tmp_path)
    root = "memory://evaluation-report"
    for name in ("evaluation", "dead_letters", "training_history.json", "timings.json", "ranked.json"):
        path = tmp_path / name
        (storage.copy_tree if path.is_dir() else storage.copy)(path, f"{root}/{name}")
    paths = {
        "evaluation": f"{root}/evaluation",
        "dead_letters": f"{root}/dead_letters",
        "training_history": root,
        "timings": f"{root}/timings.json",
        "ranked_example": f"{root}/ranked.json",
    }
    data, local = collect(RunInfo(pipeline="p", spec="s"), **paths), collected(tmp_path, counts=None)
    assert data == local and data.evaluation == evaluation()
    written = report.build_report(data, f"{root}/report")
    assert written.html == f"{root}/report/report.html"
    assert ReportData.model_validate_json(storage.read_text(written.json)) == data


def test_collect_without_files_is_a_report_of_absences(tmp_path):
    data = collected(tmp_path)
    assert data.counts is data.evaluation is data.training is None
    assert len(data.absent) == 9
    assert Path(report.build_report(data, tmp_path / "out").html).is_file()


def test_collect_refuses_a_list_that_is_none(tmp_path):
    write_run(tmp_path)
    (tmp_path / "timings.json").write_text('{"component": "Trainer"}')
    with pytest.raises(ValueError, match="timings.json.*must be a JSON list.*dict"):
        collected(tmp_path)


def test_sample_of_dead_letters_takes_each_reason_once_over_files(tmp_path):
    write_run(tmp_path)
    letters = sample_dead_letters(tmp_path / "dead_letters", per_reason=1)
    assert [letter.reason for letter in letters] == ["bad_timestamp", "null_item_id"]
    assert letters[0].detail == "" and letters[0].source == "file-0"
