"""ML Metadata on a server: what names one, and runs whose nodes find one another's work there."""

import pytest

from features.errors import InputError, RunError
from pipeline.run.by_node.launch import Launcher
from pipeline.run.dag import run_dag
from pipeline.run.lineage import component_runs, last_round
from pipeline.run.metadata_server import PASSWORD, MetadataServer, read_server
from tests.pipeline.run import database_server
from tests.pipeline.run.small_pipeline import create_small_pipeline
from tests.pipeline.run.test_nodes_alone import alone, make_config, sums


@pytest.mark.parametrize(
    "uri, expected",
    [
        ("postgresql://ada@db/mlmd", MetadataServer("postgresql", "db", 5432, "mlmd", "ada", "from outside")),
        ("mysql://ada:s%40e@db:3307/mlmd", MetadataServer("mysql", "db", 3307, "mlmd", "ada", "s@e")),
        ("mysql://ada:@db/mlmd", MetadataServer("mysql", "db", 3306, "mlmd", "ada", "")),
        ("runs/shop/metadata.sqlite", None),
    ],
)
def test_a_uri_names_a_database(uri, expected, monkeypatch):
    monkeypatch.setenv(PASSWORD, "from outside")
    assert read_server(uri) == expected


@pytest.mark.parametrize(
    "uri, message",
    [
        ("postgres://ada@db/mlmd", "Did you mean `postgresql`"),
        ("gs://bucket/metadata", "a local file, or a database of postgresql or mysql"),
        ("postgresql://db/mlmd", "is named as postgresql://user@host/database"),
        ("mysql://ada@db", "is named as"),
        ("mysql://ada@db/a/b", "is named as"),
        ("mysql://ada@db:port/a", "cannot be read"),
        ("postgresql://ada:secret@/mlmd", "is named as"),
    ],
)
def test_what_names_none_is_refused(uri, message):
    with pytest.raises(InputError, match=message) as refused:
        read_server(uri)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_server_that_is_not_there_is_said(kind):
    with pytest.raises(RunError, match=f"{kind}://ada@127.0.0.1:1/mlmd: ML Metadata's server does not let us in"):
        component_runs(f"{kind}://ada:secret@127.0.0.1:1/mlmd", "shop")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_nodes_find_one_another_on_a_server(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.pipeline.create_pipeline", create_small_pipeline)
    monkeypatch.setenv(PASSWORD, database_server.PASSWORD)
    with database_server.server(kind) as uri:
        shop = make_config(tmp_path / "shop", metadata=uri)
        books = make_config(tmp_path / "books", metadata=uri, name="books", warmup_requests=5)
        assert shop.metadata_path == uri and component_runs(uri, "shop") == []
        # Two pipelines on one server, node by node in turn, under the same id.
        for node in ("Make", "Double", "Add"):
            assert set(alone(shop, "one", node).values()) == {"COMPLETE"}
            alone(books, "one", node)
        assert (sums(shop, "one"), sums(books, "one")) == (9, 15)
        assert {run.state for run in run_dag(shop, run_id="again")} == {"CACHED"}
        corrected = make_config(tmp_path / "shop", metadata=uri, warmup_requests=4)
        alone(corrected, "one", "Make", "Double", "Add")
        assert last_round(uri, "shop", "one") == 2 and sums(shop, "one", 2) == 12
        assert Launcher(books, "one").states() == dict.fromkeys(("Make", "Double", "Add"), "COMPLETE")
    assert not (tmp_path / "shop" / "run" / "metadata.sqlite").exists()
