"""Paths that hold something else than files of a table."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.drills.ingest.naive_ingest.compare import requests_of
from tests.features.ingest.suite.case import (
    FIRST,
    GOOD,
    SPEC,
    BadInput,
    Content,
    good,
    lines,
    refused,
    row,
)
from tests.features.ingest.suite.json_cases import feature_is

MORE = lines(*good(GOOD, GOOD), row(user=""))
BOTH = {"impressions": {"kept": 2 * GOOD}}
LETTER = {"impressions": {"null_user_id": [GOOD + 2]}}
DAY = {"features": [*SPEC["features"], {"name": "day", "table": "impressions"}]}


def link_to(target: str):
    """Makes a link; `target` is beside its folder's parent."""
    return lambda path: os.symlink(target, path)


def elsewhere(content: bytes):
    """Makes a linked folder that holds a file."""

    def make(path: Path) -> None:
        other = path.parents[2] / "elsewhere"
        other.mkdir()
        (other / "b.csv").write_bytes(content)
        os.symlink(other, path)

    return make


def loop(path: Path) -> None:
    """Makes a link to the folder that it is in."""
    os.symlink(path.parent, path)


def passed_over(*names: str):
    """Checks which files the account names as passed over."""

    def check(folder: Path) -> None:
        told = json.loads((folder / "out" / "examples" / "counts.json").read_text())["tables"]["impressions"]
        assert sorted(Path(each).name for each in told["passed_over"]) == sorted(names), told["passed_over"]

    return check


def differing(*names: str):
    """Checks which files the account names as of other columns."""

    def check(folder: Path) -> None:
        told = (folder / "out" / "examples" / "counts.json").read_text()
        for name in names:
            assert name in told, f"{name} is not in counts.json"

    return check


def alone(name: str, more: Content, **also) -> BadInput:
    """A file by another name beside the first one, which is read."""
    return BadInput(f"file_{name}", {**FIRST, f"impressions/{name}": more}, LETTER, counts=BOTH, **also)


def over(name: str) -> BadInput:
    return BadInput(f"passed_over_{name}", {**FIRST, f"impressions/{name}": MORE}, {}, check=passed_over(name))


def silent(name: str) -> BadInput:
    counts = {"impressions": {"kept": GOOD}}
    return BadInput(
        f"silent_{name.replace('/', '_')}",
        {**FIRST, f"impressions/{name}": MORE},
        {},
        check=passed_over(),
        counts=counts,
    )


def one_run_left(folder: Path) -> None:
    """Runs the ingestion again over fewer rows with fewer shards: nothing of the first run may be there."""
    from features.config import parse_model
    from features.ingest import ingest_logs
    from features.ingest.config import IngestConfig
    from features.spec import FeatureSpec

    case = AGAIN
    (folder / "log" / "impressions" / "b.csv").unlink()
    settings = case.settings(folder) | {"num_shards": 1}
    settings["tables"].pop("items")
    out = folder / "out"
    spec = parse_model({"name": "s", "features": SPEC["features"][:1]}, FeatureSpec, "spec.yaml")
    ingest_logs.run_ingest(
        parse_model(settings, IngestConfig, "pipeline.yaml"), spec, out / "examples", out / "behaviors", out / "dead"
    )
    assert len(requests_of(out / "examples", out / "behaviors")) == GOOD // 2
    for part in ("behaviors", "dead"):
        assert all("-of-00001" in file.name for file in (out / part).glob("*.parquet"))
    assert not (out / "examples" / "catalogue" / "items.parquet").exists(), "the catalogue of the first run"
    assert not (out / "examples" / "Split-eval").exists(), "a split of the first run"


AGAIN = BadInput(
    "used_directory",
    {**FIRST, "impressions/b.csv": lines(*good(200, GOOD))},
    {},
    config={"num_shards": 5},
    check=one_run_left,
)

FILES = (
    refused("link_to_nothing", {**FIRST, "impressions/b.csv": link_to("nothing.csv")}, "b.csv"),
    refused("link_to_itself", {**FIRST, "impressions/b.csv": lambda path: os.symlink(path, path)}, "b.csv"),
    refused("named_pipe", {**FIRST, "impressions/b.csv": lambda path: os.mkfifo(path)}, "b.csv"),
    refused("named_pipe_alone", {"impressions/b.csv": lambda path: os.mkfifo(path)}, "b.csv"),
    refused("folder_of_no_files", {"impressions": lambda path: path.mkdir()}, "impressions"),
    refused("path_to_nothing", {"impressions": lambda path: None}, "impressions"),
    refused("folder_of_other_files", {"impressions/readme.txt": "hello"}, "impressions"),
    refused("folder_of_hidden_files", {"impressions/_a.csv": MORE}, "impressions"),
    alone("part [1].csv", MORE),
    alone("part *.csv", MORE),
    alone("ö b.csv", MORE),
    alone("B.CSV", MORE),
    alone("deep/er/b.csv", MORE),
    alone("b.tsv", MORE.replace(b",", b"\t")),
    alone("linked", elsewhere(MORE)),
    BadInput(
        "folder_linked_to_itself", {**FIRST, "impressions/again": loop}, {}, counts={"impressions": {"rows_in": GOOD}}
    ),
    over("b.csv.zip"),
    over("part-00003"),
    over("events.csv.2026-11-14"),
    over("b.csv.tmp"),
    over("b.xlsx"),
    silent("_SUCCESS.csv"),
    silent(".b.csv"),
    silent("_temporary/b.csv"),
    BadInput(
        "file_a_folder_named_like_a_file",
        {"impressions/b.csv/c.csv": lines(*good(), row(user=""))},
        LETTER,
    ),
    BadInput(
        "partitions",
        {
            "impressions/day=2026-11-24/a.csv": lines(*good(), row(user="")),
            "impressions/day=2026-11-25/b.csv": lines(*good(4, GOOD)),
        },
        LETTER,
        spec=DAY,
        check=feature_is("day", r0="2026-11-24", **{f"r{GOOD // 2}": "2026-11-25"}),
    ),
    BadInput(
        "partition_that_the_file_has_too",
        {
            "impressions/day=x/a.csv": lines(
                *(f"{each},y" for each in good()), "short", header="request_id,timestamp,user_id,item_id,click,hour,day"
            )
        },
        {"impressions": {"unparsable_row": [GOOD + 2]}},
        spec=DAY,
        check=feature_is("day", r0="y"),
    ),
    BadInput(
        "files_of_other_columns_are_named",
        {
            **FIRST,
            "impressions/b.csv": lines(
                "x,1700000000000,u1,i1,0,3,0.5",
                "y,1700000000000,u1,i1,0,3,7",
                header="request_id,timestamp,user_id,item_id,click,hour,propensity",
            ),
        },
        {"impressions": {"bad_propensity": [3]}},
        check=differing("a.csv"),
    ),
    AGAIN,
)
