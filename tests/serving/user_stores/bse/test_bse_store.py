import os
import shutil
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pyarrow as pa
import pytest

from features.histories.bucket_table import BucketTable
from features.items.simhash import SimHash
from serving.user_stores import builds as store_builds
from serving.user_stores import environment as lmdb_environment
from serving.user_stores.bse.build import StoreBuilder
from serving.user_stores.bse.record import PRECISIONS, RecordLayout
from serving.user_stores.bse.store import BseStore, Change
from serving.user_stores.builds import BUILDS, remove_version, versions
from serving.user_stores.environment import StoreError
from serving.user_stores.user_store import VersionMismatch
from tests.builders.bse_example import (
    DIM,
    LAYOUT,
    behaviors,
    build,
    same,
    table_of,
    write,
)

DATA = "current/data.mdb"


def test_what_was_written_is_read(tmp_path):
    build(tmp_path, users=range(600), precision_note="kept")
    with BseStore(tmp_path, "v1") as store:
        assert len(store) == 600 and store.version == "v1" and store.header["precision_note"] == "kept"
        assert all(same(store.get(user), table_of(user)) for user in (0, 1, 255, 256, 599))
        assert store.get(600) is None and store.get("1") is None
        assert [user for user, _ in store] == list(range(600))
        assert all(same(table, table_of(user)) for user, table in store)
        found = store.verify()
    assert (found.users, found.behaviors, found.faults) == (600, 12_000, [])
    assert found.num_bytes == 600 * LAYOUT.num_bytes


def test_a_string_and_a_number_of_the_same_digits_are_two_users(tmp_path):
    with StoreBuilder(tmp_path, "v1", LAYOUT) as builder:
        write(builder, [1, 2])
        write(builder, [3, 4], pa.array(["1", "x" * 2000]))
        builder.publish()
    with BseStore(tmp_path) as store:
        assert same(store.get(1), table_of(1)) and same(store.get("1"), table_of(3))
        assert same(store.get("x" * 2000), table_of(4)) and store.get("x" * 1999) is None
        assert [user for user, _ in store] == [1, 2, "1", "x" * 2000]
        assert store.first_users(3) == [1, 2, "1"] and store.first_users(9) == [1, 2, "1", "x" * 2000]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision(tmp_path, precision):
    build(tmp_path, layout=RecordLayout(16, 8, DIM, precision))
    with BseStore(tmp_path) as store:
        table = table_of(7)
        step = {"fp32": 0, "fp16": 2.0**-11, "int8": 0.51 / 127}[precision]
        assert np.abs(store.get(7).sums - table.sums).max() <= step * np.abs(table.sums).max()
        assert np.array_equal(store.get(7).counts, table.counts)
        assert store.verify().faults == [] and len(store.record(7)) == store.layout.num_bytes


def test_appending_one_by_one_is_rebuilding(tmp_path):
    build(tmp_path, users=range(3))
    values, signatures = behaviors(1, 60)  # another history than that in the store: it comes on top
    more = [Change(1, value, signature) for value, signature in zip(values, signatures, strict=True)]
    old = behaviors(1)
    expected = BucketTable.build(np.concatenate([old[0], values]), np.concatenate([old[1], signatures]), 8)
    with BseStore(tmp_path) as store:
        store.append(1, values[0], signatures[0])
        assert store.apply(more[1:]) == 1
        for value, signature in zip(values[:5], signatures[:5], strict=True):
            store.append("new", value, signature)
    with BseStore(tmp_path) as store:
        found = store.get(1)
        assert np.abs(found.sums - expected.sums).max() < 1e-6 * np.abs(expected.sums).max() * 10
        assert np.array_equal(found.counts, expected.counts)
        queries = SimHash(DIM).signatures(values)
        np.testing.assert_allclose(found.look_up(queries), expected.look_up(queries), atol=1e-6)
        fresh = BucketTable.build(values[:5], signatures[:5], 8)
        np.testing.assert_allclose(store.get("new").look_up(queries), fresh.look_up(queries), atol=1e-6)
        assert len(store) == 4 and store.verify().faults == [] and same(store.get(0), table_of(0))


def test_expiring_everything_removes_the_user(tmp_path):
    build(tmp_path, users=range(3))
    long_id = "y" * 1000
    with BseStore(tmp_path) as store:
        values, signatures = behaviors(1)
        store.append(long_id, values[0], signatures[0])
        store.expire(long_id, values[0], signatures[0])
        for value, signature in zip(values, signatures, strict=True):
            store.expire(1, value, signature)
        assert store.get(1) is None and store.get(long_id) is None and len(store) == 2
        with pytest.raises(ValueError, match="not in the table"):
            store.expire(1, values[0], signatures[0])
        assert store.verify().faults == []


def test_changes_are_made_together_or_not_at_all(tmp_path):
    build(tmp_path, users=range(3))
    values, signatures = behaviors(9)
    with BseStore(tmp_path) as store:
        with pytest.raises(ValueError, match="finite"):
            store.apply([Change(0, values[0], signatures[0]), Change(1, values[0] * np.nan, signatures[0])])
        assert same(store.get(0), table_of(0))


def test_another_version_is_refused(tmp_path):
    build(tmp_path, "v1")
    with pytest.raises(VersionMismatch, match="'v2'. It holds: v1"):
        BseStore(tmp_path, "v2")
    # A directory that was renamed by hand does not deceive a reader either.
    os.symlink(os.readlink(tmp_path / "v1"), tmp_path / "v2")
    with pytest.raises(VersionMismatch, match="ranker version 'v1'"):
        BseStore(tmp_path, "v2")


def test_versions_stand_side_by_side(tmp_path):
    build(tmp_path, "v1", range(3))
    build(tmp_path, "v2", range(5))
    assert versions(tmp_path) == ["v1", "v2"]
    with BseStore(tmp_path, "v1") as one, BseStore(tmp_path, "v2") as two, BseStore(tmp_path) as current:
        assert (len(one), len(two), current.version) == (3, 5, "v2")
    with pytest.raises(StoreError, match="current"):
        remove_version(tmp_path, "v2")
    remove_version(tmp_path, "v1")
    assert versions(tmp_path) == ["v2"] and len(list((tmp_path / BUILDS).glob("v*"))) == 1


def test_a_reader_survives_the_deletion_of_its_version(tmp_path):
    build(tmp_path, "v1", range(300))
    with BseStore(tmp_path, "v1") as reader:
        build(tmp_path, "v2")
        shutil.rmtree(os.path.realpath(tmp_path / "v1"))
        os.unlink(tmp_path / "v1")
        assert all(same(reader.get(user), table_of(user)) for user in range(300))
        assert reader.verify().users == 300
    with pytest.raises(VersionMismatch):
        BseStore(tmp_path, "v1")


def test_rebuilding_a_version_swaps_it(tmp_path):
    build(tmp_path, "v1", range(3))
    with BseStore(tmp_path) as old:
        build(tmp_path, "v1", range(10))
        assert len(old) == 3 and same(old.get(2), table_of(2))
        with pytest.raises(StoreError, match="replaced"):
            old.append(1, *(each[0] for each in behaviors(1)))
        with BseStore(tmp_path) as new:
            assert len(new) == 10
    assert len(list((tmp_path / BUILDS).glob("v1-*"))) == 1


def test_a_build_that_reopens_its_file_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store_builds, "REOPEN_USERS", 50)
    with StoreBuilder(tmp_path, "v1", LAYOUT) as builder:
        for start in range(0, 300, 30):
            write(builder, range(start, start + 30))
        builder.publish()
    with BseStore(tmp_path) as store:
        assert [user for user, _ in store] == list(range(300)) and store.verify().faults == []


def test_an_unfinished_build_leaves_nothing(tmp_path):
    build(tmp_path, "v1", range(3))
    with pytest.raises(RuntimeError, match="planned"), StoreBuilder(tmp_path, "v2", LAYOUT) as builder:
        write(builder, range(3))
        raise RuntimeError("planned")
    with StoreBuilder(tmp_path, "v3", LAYOUT) as builder:
        write(builder, range(3))
        with pytest.raises(StoreError, match="another process builds"), StoreBuilder(tmp_path, "v4", LAYOUT):
            pass
    assert versions(tmp_path) == ["v1"] and len(list((tmp_path / BUILDS).glob("v*"))) == 1


@pytest.mark.parametrize("version", ["", "../v1", "a/b", ".v", "current", "v 1"])
def test_names_that_are_no_version_are_refused(tmp_path, version):
    for use in (lambda: StoreBuilder(tmp_path, version, LAYOUT), lambda: BseStore(tmp_path, version)):
        with pytest.raises(ValueError, match="`version`"):
            use()


def test_no_store_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no BSE store"):
        BseStore(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no published version"):
        BseStore(tmp_path)
    build(tmp_path)
    store = BseStore(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.get(1)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.999])
def test_a_cut_off_file_is_refused(tmp_path, share):
    build(tmp_path, users=range(300))
    data = tmp_path / DATA
    os.truncate(data, int(data.stat().st_size * share))
    with pytest.raises(StoreError, match="cut off|damaged|finished"):
        BseStore(tmp_path)
    build(tmp_path, users=range(10))
    assert len(BseStore(tmp_path)) == 10


def test_a_file_of_something_else_is_refused(tmp_path):
    build(tmp_path)
    (tmp_path / DATA).write_bytes(b"no LMDB at all" * 5000)
    with pytest.raises(StoreError, match="damaged"):
        BseStore(tmp_path)


def test_a_damaged_record_is_found(tmp_path):
    build(tmp_path, users=range(300))
    data = tmp_path / DATA
    whole = bytearray(data.read_bytes())
    place = whole.index(table_of(123).sums[3, 4].tobytes())
    whole[place] ^= 1
    data.write_bytes(whole)
    with BseStore(tmp_path) as store:
        with pytest.raises(StoreError, match="user 123: the checksum"):
            store.get(123)
        assert same(store.get(122), table_of(122))
        found = store.verify()
    assert (found.users, found.num_faults) == (300, 1)
    assert found.faults == [("123", "the checksum of a record is wrong")]


def test_wrong_tables_are_found(tmp_path):
    sums, counts = np.zeros((3, 16, 8, DIM), np.float32), np.ones((3, 16, 8), np.int32)
    counts[0, 0, 0] = -1
    counts[2, :, 1] = 0
    sums[2, 5, 1] = 1
    with StoreBuilder(tmp_path, "v1", LAYOUT) as builder:
        builder.writer.write(pa.array([0, 1, 2]), sums, counts)
        builder.publish()
    with BseStore(tmp_path) as store:
        found = store.verify()
    whats = [what for _, what in found.faults]
    assert [user for user, _ in found.faults] == ["0", "0", "2"]
    assert "negative" in whats[0] and "different numbers" in whats[1] and "empty bucket" in whats[2]


def test_the_map_grows_while_threads_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_environment, "MIN_MAP", 1 << 20)
    build(tmp_path, users=range(2000))  # over 8 MB: grown while it was built
    assert (tmp_path / DATA).stat().st_size > 4 << 20
    values, signatures = behaviors(1)
    wrong, stop = [], threading.Event()

    def read(store):
        while not stop.is_set():
            user = int(np.random.default_rng().integers(2000))
            if not same(store.get(user), table_of(user)):
                wrong.append(user)

    with BseStore(tmp_path) as store:
        threads = [threading.Thread(target=read, args=(store,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for start in range(0, 6000, 1000):
            store.apply([Change(f"new {start + i}", values[0], signatures[0]) for i in range(1000)])
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == [] and len(store) == 8000


WRITER = """
import sys
from serving.user_stores import builds as store_builds
from serving.user_stores import environment as lmdb_environment
from serving.user_stores.bse.store import BseStore, Change
from tests.builders.bse_example import behaviors
values, signatures = behaviors(0)
with BseStore(sys.argv[1]) as store:
    print("open", flush=True)
    for batch in range(40):
        # A user's two tables change in one transaction: a reader that saw one without the other would be torn.
        changes = [Change(user, values[0], signatures[0]) for user in (0, 1)]
        store.apply(changes + [Change(f"{batch} {i}", values[0], signatures[0]) for i in range(60)])
"""


def test_another_process_appends_while_this_one_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_environment, "MIN_MAP", 1 << 20)
    build(tmp_path, users=range(100))
    with BseStore(tmp_path) as store:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "open\n"
        seen = set()
        while writer.poll() is None:
            seen.add(int(store.get(0).counts[0].sum()))
            assert same(store.get(50), table_of(50))
        assert writer.wait() == 0
        # The file outgrew the map with which this process had opened it.
        assert len(store) == 100 + 40 * 60 and len(seen) > 2
        assert store.get(0).counts[0].sum() == 60 and store.get("39 59") is not None
        assert store.verify().faults == []


def test_opened_twice_in_a_process(tmp_path):
    build(tmp_path)
    first, second = BseStore(tmp_path), BseStore(tmp_path, "v1")
    first.close()
    assert same(second.get(1), table_of(1))
    second.append(1, *(each[0] for each in behaviors(2)))
    second.close()
    with BseStore(tmp_path) as third:
        assert third.get(1).counts[0].sum() == 21


def test_a_forked_child_is_told_and_harms_nobody(tmp_path):
    build(tmp_path)
    with BseStore(tmp_path) as store:
        receive, send = os.pipe()
        child = os.fork()
        if not child:
            try:
                store.get(1)
                os.write(send, b"read")
            except StoreError as error:
                os.write(send, str(error).encode())
            store.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert b"before this process was forked" in os.read(receive, 1000)
        assert same(store.get(1), table_of(1))


def test_a_store_that_may_not_be_written_is_read():
    with tempfile.TemporaryDirectory() as root:
        build(root)
        for directory, _, names in os.walk(root):
            os.chmod(directory, 0o555)
            for name in names:
                os.chmod(os.path.join(directory, name), 0o444)
        receive, send = os.pipe()
        child = os.fork()
        if not child:
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)  # root may write everywhere
                with BseStore(root) as store:
                    os.write(send, b"read " if same(store.get(1), table_of(1)) else b"wrong ")
                    store.append(1, *(each[0] for each in behaviors(1)))
            except BaseException as error:
                os.write(send, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        for directory, _, _ in os.walk(root):
            os.chmod(directory, 0o755)
        answer = os.read(receive, 10_000).decode()
    assert answer.startswith("read StoreError") and "cannot be written" in answer
