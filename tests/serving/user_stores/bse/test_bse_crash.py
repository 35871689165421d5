"""SIGKILL in the middle of a build, of a publication and of an append: the links still name whole stores."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from serving.user_stores.bse.store import BseStore
from serving.user_stores.builds import BUILDS, versions
from tests.builders.bse_example import build, same, table_of

# Builds a version in children that kill themselves at the moments that matter (tests/builders/kill_points.py).
BUILDER = """
import sys
import pyarrow as pa
from serving.user_stores import builds as store_builds
from serving.user_stores import environment as lmdb_environment
from serving.user_stores.bse.build import StoreBuilder
from tests.builders.bse_example import LAYOUT, table_of, write
from tests.builders.kill_points import run_children

version = sys.argv[1]

def build(root, points):
    points.guard(store_builds, "open_environment", "sync_directory", "remove_unlinked")
    points.guard(store_builds.os, "symlink", "replace")
    points.guard(lmdb_environment.SharedEnvironment, "write", "sync", "close")
    with StoreBuilder(root, version, LAYOUT) as builder:
        for start in range(0, 90, 30):
            write(builder, range(start, start + 30))
        builder.publish()

# Once for all children: tables are cached, and pyarrow imports pandas with its first array.
pa.array([table_of(user).dim for user in range(90)])
run_children(sys.argv[2:], build)
"""

LOOP = """
import sys
from tests.builders.bse_example import build
print("begin", flush=True)
while True:
    build(sys.argv[1], "v2", range(90))
"""

APPENDER = """
import sys
from serving.user_stores.bse.store import BseStore, Change
from tests.builders.bse_example import behaviors
values, signatures = behaviors(0)
with BseStore(sys.argv[1]) as store:
    print("begin", flush=True)
    while True:
        store.apply([Change(user, values[0], signatures[0]) for user in range(10)])
"""


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_whole(root, version, users):
    with BseStore(root, version) as store:
        found = store.verify()
        return (
            (found.users, found.num_faults) == (users, 0)
            and store.version == version
            and all(same(store.get(user), table_of(user)) for user in range(0, users, 7))
        )


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_killed_at_every_step(tmp_path, version):
    """A new version beside the old one, and the same version built anew."""
    build(tmp_path / "whole", "v1", range(40))
    moments = int(run(BUILDER, version, f"{tmp_path / 'whole'}=-1"))
    assert moments > 20
    for moment in range(moments):
        build(tmp_path / str(moment), "v1", range(40))
    assert run(BUILDER, version, *(f"{tmp_path / str(moment)}={moment}" for moment in range(moments))) == ""
    published = 0
    for moment in range(moments):
        root = tmp_path / str(moment)
        with BseStore(root) as store:
            new = len(store) == 90
            assert is_whole(root, store.version, 90 if new else 40)
        if version == "v2":
            assert is_whole(root, "v1", 40)
            assert "v2" not in versions(root) or is_whole(root, "v2", 90)
        published += new
        # The lock died with its holder, and what was left over goes.
        build(root, "v3", range(5))
        assert is_whole(root, "v3", 5)
        assert len(list((root / BUILDS).glob("v*"))) == len(versions(root))
    assert 0 < published < moments


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    build(tmp_path, "v1", range(40))
    generator = random.Random(0)
    for longest in (0.1, 0.3, 1, 1, None):
        process = subprocess.Popen([sys.executable, "-c", LOOP, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begin\n"
        if longest is None:  # The last one is killed after it has published.
            wait_until(lambda: current_version(tmp_path) == "v2")
        else:
            time.sleep(generator.uniform(longest / 3, longest))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert is_whole(tmp_path, "v1", 40)
        current = current_version(tmp_path)
        assert is_whole(tmp_path, current, {"v1": 40, "v2": 90}[current])
    assert current == "v2"


def current_version(store_dir):
    with BseStore(store_dir) as store:
        return store.version


def wait_until(done, seconds=300):
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_while_appending(tmp_path):
    build(tmp_path, "v1", range(40))
    counts = []
    for delay in (0.05, 0.1, 0.2):
        process = subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begin\n"
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with BseStore(tmp_path) as store:
            assert store.verify().num_faults == 0
            # All ten users of a transaction, or none.
            counts.append({int(store.get(user).counts[0].sum()) for user in range(10)})
            assert len(counts[-1]) == 1 and same(store.get(11), table_of(11))
    assert counts[0] != counts[-1]
