"""Two runs of one profile never interleave, and no dead one is in the way for long."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.run.by_node import run_lock
from pipeline.run.by_node.run_lock import BusyError, read_turn, turn_of_node, turn_of_run

ROOT = Path(__file__).parents[3]


def node(home, run, name="Trainer", starts=False, last=False, alone=True):
    return turn_of_node(home, run, name, starts=starts, last=last, alone=alone)


def test_a_whole_run_keeps_all_others_out(tmp_path):
    with turn_of_run(tmp_path, "one"):
        with pytest.raises(BusyError, match="the run one by .* is under way: wait"), turn_of_run(tmp_path, "two"):
            pass
        with pytest.raises(BusyError, match="under way"), node(tmp_path, "two", starts=True):
            pass
        with pytest.raises(BusyError, match="under way already"), turn_of_run(tmp_path, "one"):
            pass
    assert BusyError.exit_code == 75
    with turn_of_run(tmp_path, "two"):
        assert read_turn(tmp_path).run == "two"
    assert read_turn(tmp_path).state == "finished"


def test_between_its_nodes_a_run_keeps_its_turn_until_it_ends_fails_or_is_idle(tmp_path, monkeypatch):
    with node(tmp_path, "one", starts=True):
        pass
    with pytest.raises(BusyError, match="more are to come"), turn_of_run(tmp_path, "two"):
        pass
    with node(tmp_path, "one", "Report", last=True):
        pass
    with node(tmp_path, "two", "LogIngest", starts=True):
        pass
    with pytest.raises(ValueError), node(tmp_path, "two"):
        raise ValueError
    assert read_turn(tmp_path).state == "failed"
    with node(tmp_path, "three", "LogIngest", starts=True):
        pass
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0.0)
    with turn_of_run(tmp_path, "four"):
        pass


def test_a_run_that_lost_its_turn_begins_again_at_its_first_node(tmp_path):
    with pytest.raises(ValueError), node(tmp_path, "one", starts=True):
        raise ValueError
    with turn_of_run(tmp_path, "two"):
        pass
    lost = "the run two by .* had its turn. Run it again from its first node"
    with pytest.raises(BusyError, match=lost), node(tmp_path, "one"):
        pass
    with node(tmp_path, "one", "LogIngest", starts=True):
        pass
    with node(tmp_path, "one"):
        pass


@pytest.mark.parametrize("alone", [True, False])
def test_nodes_of_one_run_run_together_only_where_they_may(tmp_path, alone):
    inside, ends = threading.Event(), threading.Event()

    def other():
        with node(tmp_path, "one", "Trainer.b", alone=alone):
            inside.set()
        ends.set()

    with node(tmp_path, "one", "Trainer.a", starts=True, alone=alone):
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(0.3 if alone else 30) is not alone
        with pytest.raises(BusyError), turn_of_run(tmp_path, "two"):
            pass
    assert ends.wait(30)
    thread.join()


def test_one_node_runs_once_at_a_time(tmp_path):
    order = []

    def again():
        with node(tmp_path, "one", alone=False):
            order.append("second")

    with node(tmp_path, "one", starts=True, alone=False):
        thread = threading.Thread(target=again)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


HOLD = """
import sys, time
from pipeline.run.by_node.run_lock import turn_of_run
with turn_of_run(sys.argv[1], "killed"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_whole_run_that_was_killed_is_in_nobody_s_way(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match="the run killed"), turn_of_run(tmp_path, "next"):
        pass
    process.kill()
    process.wait()
    with turn_of_run(tmp_path, "next"):
        assert read_turn(tmp_path).run == "next"


def test_a_folder_without_locks_is_no_hindrance():
    with turn_of_run("memory://runs/shop", "one"), node("memory://runs/shop", "two"):
        pass
