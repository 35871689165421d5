"""The run report: page and JSON agree, nothing is loaded, nothing from the data runs, missing parts are named."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plotly.offline import get_plotlyjs

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

HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>'\"&{{7*7}}"


class Page(HTMLParser):
    """What a browser would see: every tag, the text outside scripts, and the JSON blocks."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.blocks, self._script = [], [], {}, None
        # Plotly is four megabytes of text without a tag: not worth the parser's time, but it must be there once.
        plotly = get_plotlyjs()
        assert html.count(plotly) == 1
        self.feed(html.replace(plotly, ""))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id", "code") if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.text.append(data)
        elif self._script != "code":
            self.blocks[self._script] = json.loads(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())


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
    assert "MAP@10" in page.words and "3 epochs of SSL two-tower" in page.words
    assert "SSL two-tower: pushed as version 1762" in page.words and "Distilled two-tower: not pushed" in page.words
    assert "2.8713of 3 bits" in page.words and "mean embedding subtracted" in page.words
    assert "6,812of 7,000; 14,211 behaviours" in page.words and "17,408 Bfp32; all tables 113 MB" in page.words


def test_page_shows_the_cascade_and_its_curves(built):
    data, _, page = built
    cascade = data.cascade
    assert "17 impressions of items outside the catalogue are left out" in page.words
    for point in (cascade.chosen, *cascade.curves):
        kept = point.metrics["ndcg"]
        assert report_format.metric(kept.value) in page.words and report_format.interval(kept) in page.words
        assert report_format.percent(point.cost_share) in page.words
    for gate in cascade.gates:
        assert gate.name in page.words and gate.reason in page.words
    figures = {figure["id"]: figure for figure in page.blocks["figures"]}
    curves = {trace["name"]: trace for trace in figures["cascade-curves"]["data"]}
    assert set(curves) == {"n₂ = 5", "n₂ = 10", "no coarse stage"}
    assert curves["n₂ = 10"]["x"] == [20, 40] and curves["no coarse stage"]["x"] == [10, 20, 40]
    assert curves["no coarse stage"]["y"][-1] == pytest.approx(1.0)  # everything passes
    by_size = {(point.retrieve, point.coarse): point for point in cascade.curves}
    assert curves["n₂ = 10"]["y"] == [by_size[n, 10].metrics["ndcg"].value for n in (20, 40)]
    cost = {trace["name"]: trace for trace in figures["cascade-cost"]["data"]}
    assert cost["n₂ = 5"]["x"] == pytest.approx([100 * by_size[n, 5].cost_share for n in (10, 20, 40)])
    assert figures["cascade-recall"]["data"][0]["x"][0] == cascade.chosen.metrics["ideal_recall_retrieve"].value
    alone = Page(report.render(report_data(cascade=None)))
    assert not [1 for _, attributes in alone.tags if attributes.get("id") == "cascade"]


def test_page_compares_rankers_where_there_are_several(built):
    data, _, page = built
    other = data.rankers[1]
    for text in ("Rankers", "AW-MoE", "version 1763", report_format.metric(other.metrics["auc"].value)):
        assert text in page.words
    assert page.words.count(report_format.count(other.training.parameters)) == 2  # of the page's own ranker, too
    alone = Page(report.render(report_data(rankers=data.rankers[:1])))
    assert "AW-MoE" not in alone.words and not [1 for _, attributes in alone.tags if attributes.get("id") == "rankers"]


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
    assert "✗ Not blessed" in page.words and "1 of 3 gates failed" in page.words
    assert "56.91%" in page.words and "epoch 3 were kept" in page.words


def test_figures_hold_the_same_numbers(built):
    data, _, page = built
    figures = {figure["id"]: figure for figure in page.blocks["figures"]}
    model = data.evaluation.model.metrics["auc"]
    dots = figures["metric-auc"]["data"][0]
    assert dots["x"][0] == model.value
    assert dots["error_x"]["array"][0] == pytest.approx(model.high - model.value)
    assert dots["error_x"]["arrayminus"][0] == pytest.approx(model.value - model.low)
    assert figures["log-loss"]["data"][1]["y"] == [epoch.val_log_loss for epoch in data.training.epochs]
    assert figures["log-loss"]["layout"]["shapes"][0]["x0"] == data.training.best_epoch
    assert figures["seconds"]["data"][0]["x"] == [part.seconds for part in TIMINGS]
    assert figures["reliability"]["data"][2]["y"] == [bin.rows for bin in data.evaluation.reliability]
    shown = [value for part in figures.values() if part["id"].startswith("slice-") for value in part["data"][0]["x"]]
    assert shown == [part.metrics["auc"].value for part in data.evaluation.slices]


def test_every_figure_has_its_place_and_a_description(built):
    _, _, page = built
    places = {attrs["id"]: attrs for tag, attrs in page.tags if attrs.get("id", "").startswith("figure-")}
    assert set(places) == {f"figure-{figure['id']}" for figure in page.blocks["figures"]}
    assert all(place["role"] == "img" and len(place["aria-label"]) > 20 for place in places.values())


def test_nothing_is_loaded_from_anywhere(built):
    _, _, page = built
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe-inline" not in policy.split("style-src")[0]
    style = report._asset("report.css")
    assert "url(" not in style and "@import" not in style
    assert sum(tag == "script" for tag, _ in page.tags) == 4  # two of data, Plotly once, the page's own


def test_waterfall_walks_from_rows_in_to_rows_kept():
    table = TableCounts(rows_in=100, kept=80, duplicates=9, dead_letters=6, immature=5, reasons={"bad_value": 6})
    bars = row_account("impressions", table).data[0]
    assert bars["x"] == [100, 9, 6, 5, 80]
    assert bars["base"] == [0, 91, 85, 80, 0]


def test_orphan_clicks_are_told_from_other_dead_letters():
    table = counts().tables["clicks"]
    figure = row_account("clicks", table)
    parts = dict(zip(figure.layout["yaxis"]["ticktext"], figure.data[0]["x"], strict=True))
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
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in page.tags)
    assert HOSTILE in page.words and "49" not in re.findall(r"\{\{.*?\}\}|&49", page.words)
    assert page.blocks["report-data"]["run"]["pipeline"] == HOSTILE

    def strings(value):
        if isinstance(value, dict):
            value = list(value.values())
        return [s for part in value for s in strings(part)] if isinstance(value, list) else [value]

    # Plotly reads tags in labels: none may arrive there. (`title` and `alt` go into the page, where they are escaped.)
    for figure in page.blocks["figures"]:
        assert not any("<" in s for s in strings([figure["data"], figure["layout"]]) if isinstance(s, str))


def test_missing_parts_are_named_and_leave_no_empty_section():
    bare = ReportData(run=RunInfo(pipeline="p", spec="s"))
    page = Page(report.render(bare.with_absences()))
    headings = {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    assert headings == {"about"}
    assert page.blocks["figures"] == []
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
    rows = all_figures(report_data())["metrics"][0].layout["yaxis"]["ticktext"]
    assert rows == ["This model", "Live model", "Popularity", "Item CTR", "Oracle"]


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
    assert len(data.absent) == 8
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


@pytest.mark.parametrize(
    "value, text",
    [
        (0.424, "0.42 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (187.4, "3 min 07 s"),
        (7_200 + 7 * 60, "2 h 07 min"),
    ],
)
def test_seconds(value, text):
    assert report_format.seconds(value) == text


def test_numbers_read_alike():
    assert report_format.metric(-0.00041) == "−0.0004" and report_format.metric(float("nan")) == report_format.ABSENT
    assert report_format.percent(0.00001) == "<0.01%" and report_format.share(1, 0) == report_format.ABSENT
    assert report_format.megabytes(512.4) == "512 MB" and report_format.megabytes(1536) == "1.50 GB"
    assert report_format.metric_title("ndcg@5") == "NDCG@5" and report_format.metric_title("log_loss") == "Log loss"
