"""Arguments and files that people get wrong, without a model: a message that names it, exit code 1 or 2, no traceback.

`test_mistakes.py` has the requests that need one.
"""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app

runner = CliRunner()

PROFILE = """
name: shop
feature_spec: {spec}
ingest: {{tables: {{impressions: {folder}/impressions}}}}
models: {{autoint: {{}}}}
"""
SPEC = "name: shop\nfeatures: [{name: hour, table: impressions, dtype: int64}]\n"
ROWS = "request_id,timestamp,user_id,item_id,click,hour\n" + "".join(
    f"r{n},{1_700_000_000_000 + n},u{n % 9},i{n % 7},{int(n % 3 == 0)},{n % 24}\n" for n in range(300)
)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder of things that are not what a command wants; commands run in it."""
    folder = tmp_path_factory.mktemp("here")
    files = {
        "empty": b"",
        "text.txt": b"hello\n",
        "latin.yaml": "name: Łódź\n".encode("utf-16"),
        "deep.yaml": b"a: " + b"[" * 5_000 + b"]" * 5_000,
        "list.yaml": b"- a\n- b\n",
        "tabs.yaml": b"a:\n\t- b\n",
        "twice.yaml": b"name: a\nname: b\n",
        "alias.yaml": b"a: &a [*a]\n",
        "spec.yaml": SPEC.encode(),
        "bad_spec.yaml": SPEC.replace("impressions", "impresions").encode(),
        "own_spec.yaml": SPEC.replace("hour", "user_index").encode(),
        "profile.yaml": PROFILE.format(spec="spec.yaml", folder=folder).encode(),
        "no_spec.yaml": PROFILE.format(spec="nowhere.yaml", folder=folder).encode(),
        "wrong_spec.yaml": PROFILE.format(spec="bad_spec.yaml", folder=folder).encode(),
        "no_log.yaml": PROFILE.format(spec="spec.yaml", folder=folder / "nowhere").encode(),
        "no_model.yaml": PROFILE.format(spec="spec.yaml", folder=folder).replace("autoint", "autoinkt").encode(),
        "request.json": b'{"candidates": []}',
        "broken.json": b'{"candidates": [',
        "array.json": b"[1, 2]",
        "deep.json": b"[" * 200_000,
        "no_utf_8.json": b'{"user": "\xff"}',
        "model/1/saved_model.pb": b"no model",
        "model_of_nothing/1/.keep": b"",
        "model_of_text/1": b"a file",
        "run_of_nothing/text.txt": b"",
        "run_broken/manifest.json": b"{",
        "run_of_a_list/manifest.json": b"[]",
        "run_without_a_release/manifest.json": b'{"pipeline": "a", "models": {}, "release": null}',
        "run_of_a_lost_release/manifest.json": b'{"pipeline": "a", "models": {}, "release": "../releases/x.json"}',
        "run_broken/report/report.json": b'{"a": ',
        "impressions/a.csv": ROWS.encode(),
        "truncated/impressions/a.csv.gz": b"\x1f\x8b\x08\x00\x00",
        "binary/impressions/a.parquet": b"PAR1" + bytes(100),
        "notes/readme.md": b"no tables",
        "behaviors/behaviors-00000-of-00001.parquet": b"no parquet",
    }
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    pq.write_table(pa.table({"other": [1]}), folder / "other.parquet")
    os.symlink(folder / "nothing", folder / "dangling")
    return folder


CASES = {
    "run without a profile": ("run --config nowhere.yaml", "nowhere.yaml"),
    "run with a folder for a profile": ("run --config impressions", "impressions"),
    "run with an empty profile": ("run --config empty", "empty"),
    "run with text for a profile": ("run --config text.txt", "text.txt"),
    "run with a profile in UTF-16": ("run --config latin.yaml", "latin.yaml"),
    "run with a deep profile": ("run --config deep.yaml", "deep.yaml"),
    "run with a list for a profile": ("run --config list.yaml", "list.yaml"),
    "run with tabs in its profile": ("run --config tabs.yaml", "tabs.yaml"),
    "run with a key twice": ("run --config twice.yaml", "`name`"),
    "run with a profile that holds itself": ("run --config alias.yaml", "alias.yaml"),
    "run without its spec": ("run --config no_spec.yaml", "nowhere.yaml"),
    "run with a wrong spec": ("run --config wrong_spec.yaml", "impresions"),
    "run of an unknown kind": ("run --config no_model.yaml", "autoint"),
    "run of a model that is not in the profile": ("run --config profile.yaml --models autoint,hcm", "hcm"),
    "run of no model": ("run --config profile.yaml --models ,", "models"),
    "run with JSON for a profile": ("run --config deep.json", "deep.json"),
    "unknown command": ("rnu", "run"),
    "unknown option": ("run --confg profile.yaml", "--config"),
    "rank without a request": ("rank --model model", "--request"),
    "rank without a model": ("rank --model nowhere --request request.json", "nowhere"),
    "rank with a file for a model": ("rank --model text.txt --request request.json", "text.txt"),
    "rank with a damaged model": ("rank --model model --request request.json", "model"),
    "rank with a folder of no versions": ("rank --model notes --request request.json", "notes"),
    "rank with a version of nothing": ("rank --model model_of_nothing --request request.json", "model_of_nothing"),
    "rank with a version that is a file": ("rank --model model_of_text --request request.json", "model_of_text"),
    "rank with no request file": ("rank --model model --request nowhere.json", "nowhere.json"),
    "rank with a folder for a request": ("rank --model model --request notes", "notes"),
    "rank with a link to nothing": ("rank --model model --request dangling", "dangling"),
    "rank with an empty request": ("rank --model model --request empty", "empty"),
    "rank with broken JSON": ("rank --model model --request broken.json", "broken.json"),
    "rank with deep JSON": ("rank --model model --request deep.json", "deep.json"),
    "rank with bytes that are no text": ("rank --model model --request no_utf_8.json", "no_utf_8.json"),
    "rank the first none": ("rank --model model --request request.json --top 0", "--top"),
    "recommend from nothing": ("recommend --request request.json", "--two-tower"),
    "recommend from no run": ("recommend --run nowhere --request request.json", "nowhere"),
    "recommend from a run of nothing": ("recommend --run run_of_nothing --request request.json", "manifest.json"),
    "recommend from a broken manifest": ("recommend --run run_broken --request request.json", "manifest.json"),
    "recommend from a manifest of another form": ("recommend --run run_of_a_list -r request.json", "manifest.json"),
    "recommend from a run without a release": ("recommend --run run_without_a_release -r request.json", "no release"),
    "recommend from a lost release": ("recommend --run run_of_a_lost_release -r request.json", "has no release x"),
    "recommend with an unknown scheme": ("recommend --run nosuch://run -r request.json", "nosuch"),
    "recommend more than is found": (
        "recommend -r request.json --two-tower model -m model --items other.parquet --retrieve 5 --top 9",
        "top",
    ),
    "recommend less than nothing": (
        "recommend -r request.json --two-tower model -m model --items other.parquet --retrieve -5",
        "retrieve",
    ),
    "recommend with damaged models": (
        "recommend -r request.json --two-tower model -m model --items other.parquet",
        "model",
    ),
    "report of nothing": ("report nowhere", "nowhere"),
    "report of a file": ("report text.txt", "text.txt"),
    "report of a folder": ("report notes", "notes"),
    "report of broken figures": ("report run_broken", "run_broken"),
    "simulate into a file": ("simulate --out text.txt -n 1000", "text.txt"),
    "simulate below a file": ("simulate --out text.txt/log -n 1000", "text.txt"),
    "simulate into what is not empty": ("simulate --out notes -n 1000", "notes"),
    "simulate less than nothing": ("simulate --out new -n -3", "--impressions"),
    "simulate into an unknown scheme": ("simulate --out nosuch://log -n 1000", "nosuch"),
    "dataset from nothing": ("dataset movielens-1m --source nowhere --out new", "nowhere"),
    "dataset from another folder": ("dataset movielens-1m --source notes --out new", "ml-1m"),
    "dataset from another file": ("dataset movielens-1m --source text.txt --out new", "text.txt"),
    "dataset by another name": ("dataset movielens", "movielens"),
    "tables of no model": ("bse build -m nowhere -b behaviors -s store", "nowhere"),
    "tables of a damaged model": ("bse build -m model -b behaviors -s store", "model"),
    "sign items of no file": ("bse sign --two-tower model --items nowhere --signatures model -o out", "nowhere"),
    "sign by no signatures": ("bse sign --two-tower model --items text.txt --signatures notes -o out", "notes"),
    "table of a user in no store": ("bse get -s nowhere -u ann", "nowhere"),
    "table of a user in a file": ("bse get -s text.txt -u ann", "text.txt"),
    "table of a user who is no number": ("bse get -s notes -u ann --user-type int64", "notes"),
    "append what is no JSON": ("bse append -s notes -m model -u ann -b {", "--behavior"),
    "append what is too deep": (f"bse append -s notes -m model -u ann -b {'[' * 50_000}", "--behavior"),
    "append what is no object": ("bse append -s notes -m model -u ann -b 7", "--behavior"),
    "verify a store of another version": ("bse verify -s notes --version ../../etc", "version"),
    "check nothing": ("logs check", "--config"),
    "check without a spec": ("logs check impressions", "--spec"),
    "check with both": ("logs check impressions --config profile.yaml", "--config"),
    "check no log": ("logs check nowhere --spec spec.yaml", "nowhere"),
    "check a log without tables": ("logs check notes --spec spec.yaml", "notes"),
    "check with no spec file": ("logs check impressions=impressions --spec nowhere.yaml", "nowhere.yaml"),
    "check with a wrong spec": ("logs check impressions=impressions --spec bad_spec.yaml", "impresions"),
    "check with a reserved name": ("logs check impressions=impressions --spec own_spec.yaml", "user_index"),
    "check an unknown table": ("logs check impresions=impressions --spec spec.yaml", "impresions"),
    "check a truncated file": ("logs check impressions=truncated/impressions --spec spec.yaml", "a.csv.gz"),
    "check a damaged file": ("logs check impressions=binary/impressions --spec spec.yaml", "a.parquet"),
    "check a profile whose log is not there": ("logs check --config no_log.yaml", "nowhere"),
    "check no rows": ("logs check impressions=impressions --spec spec.yaml --rows 0", "--rows"),
    "propose for nothing": ("spec init", "PATH"),
    "propose for no log": ("spec init nowhere --out new", "nowhere"),
    "propose for a folder without tables": ("spec init notes --out new", "notes"),
    "propose for a damaged file": ("spec init impressions=binary/impressions --out new", "a.parquet"),
    "propose for another label": ("spec init impressions=impressions --label tap --out new", "tap"),
    "propose into a file": ("spec init impressions=impressions --out text.txt", "text.txt"),
    "propose a name that is a path": ("spec init impressions=impressions --name a/../../b --out new", "name"),
}


@pytest.mark.parametrize("what", CASES)
def test_bad_arguments(here, monkeypatch, what):
    line, named = CASES[what]
    monkeypatch.chdir(here)
    before = sorted(str(path) for path in here.rglob("*"))
    result = runner.invoke(app, line.split())
    assert result.exit_code in (1, 2), (result.exit_code, result.output, result.exception)
    assert named in result.stderr, result.stderr
    assert "Traceback" not in result.output and "a defect of Clickmill" not in result.stderr, result.stderr
    assert len(result.stderr) < 5_000
    assert sorted(str(path) for path in here.rglob("*")) == before, "a command that is refused leaves nothing behind"
