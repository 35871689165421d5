"""SIGKILL before and after every step of an append: nothing is lost, and nothing counts twice."""

import asyncio
import subprocess
import sys

import pytest

from serving.user_stores.append_log import AppendLog
from serving.user_stores.bse.store import BseStore
from tests.serving.gateway.behaviors.append_case import (
    KNOWN,
    VERSION,
    OpenShop,
    append_all,
    build_shop,
    contents,
    random_events,
)

# Appends events in children that kill themselves at the moments that matter (tests/builders/kill_points.py).
APPENDER = """
import asyncio, sys
from pathlib import Path
import pyarrow as pa
from serving.user_stores import append_log, environment, user_store
from serving.gateway import behaviors
from tests.builders.kill_points import run_children
from tests.serving.gateway.behaviors.append_case import KNOWN, OpenShop, append_all, random_events

EVENTS = random_events(60, users=4)[KNOWN:KNOWN + 4]

def append(root, points):
    points.guard(environment.SharedEnvironment, "write", "close")
    points.guard(append_log.AppendLog, "append", "read")
    points.guard(user_store.UserStore, "mark", "look")
    points.guard(behaviors.BehaviorWriter, "_encoded")
    with OpenShop(Path(root)) as view:
        asyncio.run(append_all(view, EVENTS, each=2))

pa.array([1])
run_children(sys.argv[1:], append)
"""


def run(*arguments):
    done = subprocess.run([sys.executable, "-c", APPENDER, *arguments], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


#: All moments, and a few of them for every day.
STEPS = [7, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(tmp_path, step):
    events = random_events(60, users=4)[: KNOWN + 4]
    build_shop(tmp_path / "rebuilt", events)
    expected = contents(tmp_path / "rebuilt")
    before = tmp_path / "before"
    build_shop(before, events[:KNOWN])
    moments = int(run(f"{copied(before, tmp_path / 'whole')}=-1"))
    assert moments > 20 and contents(tmp_path / "whole") == expected
    chosen = range(0, moments, step)
    assert run(*(f"{copied(before, tmp_path / str(moment))}={moment}" for moment in chosen)) == ""
    kept, marked = 0, set()
    for moment in chosen:
        root = tmp_path / str(moment)
        with BseStore(root / "tables", VERSION) as store:
            assert store.verify().num_faults == 0
        with OpenShop(root) as view:
            # What was on disk when it was killed is taken in by whoever opens the stores next; ...
            asyncio.run(append_all(view, []))
            kept += contents(root) == expected
            log = AppendLog(view.profiles.root)
            marked.add((log.last(), view.tables.mark(log.log_id).number))
            log.close()
            # ... and the caller, who had no answer, sends all of it again.
            asyncio.run(append_all(view, events[KNOWN:], each=2))
        assert contents(root) == expected, moment
    assert 0 < kept < len(chosen) and marked == {(0, 0), (2, 2), (4, 4)}


@pytest.mark.parametrize("rebuilt_from", [0, 30])
def test_killed_while_a_new_build_takes_the_log_in(tmp_path, rebuilt_from):
    events = random_events(60, users=4)[: KNOWN + 4]
    build_shop(tmp_path / "rebuilt", events)
    expected = contents(tmp_path / "rebuilt")
    root = tmp_path / "shop"
    build_shop(root, [])
    with OpenShop(root) as view:
        asyncio.run(append_all(view, events[:KNOWN], each=10))
    build_shop(root, events[:rebuilt_from])
    moments = int(run(f"{copied(root, tmp_path / 'whole')}=-1"))
    assert contents(tmp_path / "whole") == expected
    chosen = range(0, moments, 12)
    assert run(*(f"{copied(root, tmp_path / str(moment))}={moment}" for moment in chosen)) == ""
    for moment in chosen:
        with OpenShop(tmp_path / str(moment)) as view:
            asyncio.run(append_all(view, events[KNOWN:], each=2))
        assert contents(tmp_path / str(moment)) == expected, moment


def copied(root, to):
    subprocess.run(["cp", "-a", str(root), str(to)], check=True)
    return to
