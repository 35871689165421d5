"""Readers beside a builder: opening always finds a whole store, and who follows one reads its newest build."""

import os
import shutil
import subprocess
import sys
import threading

import pytest

from serving.user_stores import environment as lmdb_environment
from serving.user_stores import user_store
from serving.user_stores.bse.record import RecordLayout
from serving.user_stores.bse.store import BseStore
from serving.user_stores.builds import BUILDS, remove_version
from serving.user_stores.environment import StoreError
from serving.user_stores.user_store import VersionMismatch
from tests.builders.bse_example import DIM, behaviors, build, same, table_of

# Opens, reads and closes the store until its standard input ends; prints how often, or what went wrong.
READER = """
import select, sys
from serving.user_stores.bse.store import BseStore
from tests.builders.bse_example import same, table_of

root, version = sys.argv[1], sys.argv[2] or None
opened = 0
print("begin", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    with BseStore(root, version) as store:
        assert store.version == "v1" and same(store.get(3), table_of(3)), opened
        assert len(store) in (5, 6), len(store)
    opened += 1
print(opened, flush=True)
"""


def test_opening_during_publications_always_finds_a_whole_store(tmp_path):
    build(tmp_path, users=range(5))
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path), version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for version in ("v1", "v1", "")
    ]
    try:
        assert [reader.stdout.readline() for reader in readers] == ["begin\n"] * 3
        for number in range(50):
            build(tmp_path, users=range(5 + number % 2))
        ends = [reader.communicate("", timeout=60) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
    for (told, error), reader in zip(ends, readers, strict=True):
        assert reader.returncode == 0, error
        assert int(told) > 10


@pytest.mark.parametrize("step", range(12))
def test_a_build_that_is_replaced_at_any_step_of_opening_is_opened_anew(tmp_path, monkeypatch, step):
    """The build that the link named is replaced and removed before the n-th call of the system or of LMDB."""
    build(tmp_path, users=range(5))
    replaced, passed = [], 0

    def guarded(owner, name):
        inner = getattr(owner, name)

        def call(*arguments, **options):
            nonlocal passed
            if passed == step and not replaced:
                replaced.append(name)
                build(tmp_path, users=range(6))
            passed += 1
            return inner(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    guarded(user_store.os.path, "realpath")
    guarded(lmdb_environment.Path, "stat")
    guarded(lmdb_environment.Path, "exists")
    guarded(lmdb_environment.lmdb, "open")
    guarded(lmdb_environment.SharedEnvironment, "_check_length")
    with BseStore(tmp_path, "v1") as store:
        assert same(store.get(3), table_of(3))
        assert len(store) == (6 if replaced else 5) or passed > step
    assert replaced or passed <= step


def test_who_follows_reads_the_newest_build_and_who_does_not_what_he_opened(tmp_path, monkeypatch):
    build(tmp_path, users=range(5))
    monkeypatch.setattr(user_store, "LOOK_SECONDS", 0.0)
    with BseStore(tmp_path, "v1", follow=True) as following, BseStore(tmp_path, "v1") as staying:
        assert following.get(7) is None
        build(tmp_path, users=range(9), layout=RecordLayout(16, 8, DIM, "fp16"), note="again")
        assert following.get(7) is not None and len(following) == 9
        assert following.header["note"] == "again" and following.layout.precision == "fp16"
        assert staying.get(7) is None and len(staying) == 5 and same(staying.get(3), table_of(3))
        # The version that it opened, not the current one: tables are one ranker's.
        build(tmp_path, "v2", users=range(3))
        assert following.version == "v1" and len(following) == 9
    with BseStore(tmp_path, follow=True) as current:
        assert current.version == "v2"
        build(tmp_path, "v3", users=range(4))
        assert current.version == "v2" and len(current) == 3


def test_who_follows_looks_now_and_then(tmp_path, monkeypatch):
    build(tmp_path, users=range(5))
    now = [100.0]
    monkeypatch.setattr(user_store.time, "monotonic", lambda: now[0])
    with BseStore(tmp_path, "v1", follow=True) as store:
        build(tmp_path, users=range(9))
        assert store.get(7) is None
        now[0] += user_store.LOOK_SECONDS
        assert store.get(7) is not None


def test_who_follows_keeps_what_it_has_where_the_next_build_cannot_be_opened(tmp_path, monkeypatch, caplog):
    build(tmp_path, users=range(5))
    monkeypatch.setattr(user_store, "LOOK_SECONDS", 0.0)
    with BseStore(tmp_path, "v1", follow=True) as store:
        build(tmp_path, users=range(9))
        held = os.readlink(tmp_path / "v1")
        (tmp_path / held / "data.mdb").write_bytes(b"x" * 9000)
        assert same(store.get(3), table_of(3)) and len(store) == 5
        assert [record.levelname for record in caplog.records] == ["WARNING"] and "damaged" in caplog.text
        # Withdrawn: nothing there to follow.
        build(tmp_path, "v2")
        remove_version(tmp_path, "v1")
        assert same(store.get(3), table_of(3)) and len(caplog.records) == 2 and "holds no tables" in caplog.text
        # Asked again and again, and told once each.
        assert store.get(4) is not None and len(caplog.records) == 2
        build(tmp_path, users=range(7))
        assert len(store) == 7


def test_who_follows_does_not_append(tmp_path):
    """A behaviour may be in the rebuilt table already: it would count twice."""
    build(tmp_path, users=range(5))
    with BseStore(tmp_path, "v1", follow=True) as store:
        with pytest.raises(StoreError, match="opened to follow"):
            store.append(1, *(part[0] for part in behaviors(1)))
        assert same(store.get(1), table_of(1))


def test_threads_read_on_while_the_store_is_rebuilt(tmp_path, monkeypatch):
    before = set(lmdb_environment._REGISTRY.values())  # what other tests of this process left open
    build(tmp_path, users=range(300))
    monkeypatch.setattr(user_store, "LOOK_SECONDS", 0.0)
    failures, read, stop = [], [0] * 4, threading.Event()
    with BseStore(tmp_path, "v1", follow=True) as store:

        def work(number: int) -> None:
            try:
                while not stop.is_set():
                    assert same(store.get(number), table_of(number))
                    if number == 0:
                        assert sum(1 for _ in store) in (300, 301)
                    read[number] += 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(20):
                build(tmp_path, users=range(300 + number % 2))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == [] and min(read) > 0
        assert len(set(lmdb_environment._REGISTRY.values()) - before) == 1, "what was replaced is closed"
    assert set(lmdb_environment._REGISTRY.values()) <= before


def test_a_store_that_is_damaged_is_still_said_to_be(tmp_path):
    build(tmp_path, users=range(5))
    held = tmp_path / os.readlink(tmp_path / "v1")
    (held / "data.mdb").write_bytes(b"x" * 9000)
    with pytest.raises(StoreError, match="damaged"):
        BseStore(tmp_path, "v1")
    shutil.rmtree(held)
    with pytest.raises(VersionMismatch, match="holds no tables"):
        BseStore(tmp_path, "v1")
    assert not held.exists() and (tmp_path / BUILDS).is_dir()
