"""What tests of several rooms share, made once a session. Imports stay inside: most rooms need no model."""

import functools
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="session")
def raw_small_log(tmp_path_factory):
    """Directory of raw examples (splits train and eval, behaviours, catalogue)."""
    from tests.builders.small_log import write_raw_log

    raw = tmp_path_factory.mktemp("raw")
    write_raw_log(raw)
    return raw


@pytest.fixture(scope="session")
def small_log(raw_small_log, tmp_path_factory):
    """Directory of encoded examples, and their encoding."""
    from tests.builders.small_log import encode_log

    encoded = tmp_path_factory.mktemp("encoded")
    return encoded, encode_log(raw_small_log, encoded)


@pytest.fixture(scope="session")
def raw_examples_dir(tmp_path_factory):
    """Raw examples in two shards a split."""
    from tests.builders.small_ranker import random_requests

    directory = tmp_path_factory.mktemp("raw_examples")
    for split, count, seed in (("train", 400, 1), ("eval", 90, 2)):
        (directory / f"Split-{split}").mkdir()
        table = random_requests(count, seed=seed, first=1000 * seed)
        half = count // 2
        for shard, part in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(part, directory / f"Split-{split}" / f"requests-{shard:05d}-of-00002.parquet")
    return directory


@pytest.fixture(scope="session")
def cascade_log(tmp_path_factory):
    """Raw and encoded examples of a simulated log, and their encoding (cascade_example.py); not to be written to."""
    from tests.builders.cascade_example import make_log

    return make_log(tmp_path_factory.mktemp("cascade"))


@pytest.fixture(scope="session")
def cascade_work(cascade_log):
    """That log's folder, with the exports of a cascade beside it."""
    from tests.builders.cascade_example import export_models

    _, encoded, encoding = cascade_log
    export_models(encoded, encoding, encoded.parent)
    return encoded.parent


@pytest.fixture(scope="module")
def loaded_once():
    """For files whose every test opens the same exports, which takes seconds: the newest four are read from disk once.

    One that has changed since is read again, so that a test may damage a copy of its own.
    """
    import tensorflow as tf

    load = tf.saved_model.load

    @functools.lru_cache(maxsize=4)
    def kept(path: str, changed: int):
        return load(path)

    def once(path):
        graph = Path(path) / "saved_model.pb"
        return kept(str(path), graph.stat().st_mtime_ns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.saved_model, "load", once)
        yield


@pytest.fixture(scope="session")
def encoding(raw_examples_dir, tmp_path_factory):
    """Vocabularies and moments fitted on the train split."""
    from features.encoding.fit import fit_encoding
    from tests.builders.small_ranker import SPEC

    directory = tmp_path_factory.mktemp("encoding") / "encoding"
    return fit_encoding(raw_examples_dir, SPEC, directory)


@pytest.fixture(scope="session")
def model(encoding):
    from tests.builders.small_ranker import make_small_ranker

    return make_small_ranker(encoding)


@pytest.fixture(scope="session")
def base_dir(model, encoding, tmp_path_factory):
    """`serving_models/shop/` with version 3 exported."""
    from serving.export.ranker import export_ranker
    from tests.builders.small_ranker import random_requests

    base = tmp_path_factory.mktemp("serving_models") / "shop"
    export_ranker(model, encoding, base / "3", random_requests(5, seed=9))
    return base


@pytest.fixture(scope="session")
def saved(base_dir):
    from serving.saved.ranker import SavedRanker

    return SavedRanker(base_dir)


@pytest.fixture(scope="session")
def small_run_root(tmp_path_factory):
    """Where `small_run` keeps its log, its run and what it pushes."""
    return tmp_path_factory.mktemp("small_run")


@pytest.fixture(scope="session")
def small_run(small_run_root):
    """What a run of the whole pipeline left (tests/e2e/small_run.py); a minute."""
    from pipeline.run.run import run_pipeline
    from tests.e2e.small_run import make_config

    return run_pipeline(make_config(small_run_root))


@pytest.fixture(scope="session")
def small_run_again(small_run, small_run_root):
    """The same run a second time, before any test runs another one beside it."""
    from pipeline.run.run import run_pipeline
    from tests.e2e.small_run import make_config

    return run_pipeline(make_config(small_run_root))


@pytest.fixture(scope="module")
def these_tests_on_the_path():
    """TFX has IPython put a package `tests` of its own on the path: a lane must find this one before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.path", [path for path in sys.path if not path.endswith("IPython/extensions")])
        yield
