"""Nodes run as soon as what they wait for is done, several at a time, in processes that end with the run."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from features.errors import InputError
from pipeline.run.by_node.launch import Progress
from pipeline.run.display import RunDisplay
from pipeline.run.lanes.failures import LaneDied, TaskFailed
from pipeline.run.lanes.order import by_longest_rest
from pipeline.run.lanes.pool import LanePool
from pipeline.run.lanes.quiet import alone
from pipeline.run.lanes.schedule import NodeFailed, run_nodes

PATIENCE_S = 60.0


def wait_for(path: Path) -> None:
    """Waits until another process has made a file."""
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.005)


def meet(mine: Path, other: Path) -> int:
    """Comes back only if who makes the other file runs at the same time."""
    mine.touch()
    wait_for(other)
    return os.getpid()


def speak(*lines: str) -> None:
    for line in lines:
        print(line)
    print("an end without a line's end", end="", file=sys.stderr)


class Picky(Exception):
    """Cannot be made again from its message."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def fail(error: str) -> None:
    raise {"input": InputError("`x` is 3: make it 4."), "picky": Picky(1, 2)}[error]


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(PATIENCE_S)


def count_into(path: Path) -> None:
    """Writes ever higher numbers until a file named stop is there."""
    number = 0
    while not (path.parent / "stop").exists():
        number += 1
        path.write_text(str(number))
        time.sleep(0.002)


def watch_alone(path: Path) -> tuple[bool, bool]:
    """Whether the numbers of `count_into` stood still meanwhile, and went on after."""
    wait_for(path)
    with alone():
        time.sleep(0.05)  # A write that was under way.
        before = path.read_text()
        time.sleep(0.2)
        still = path.read_text() == before
    end = time.monotonic() + PATIENCE_S
    while path.read_text() in (before, "") and time.monotonic() < end:
        time.sleep(0.005)
    goes_on = path.read_text() != before
    (path.parent / "stop").touch()
    return still, goes_on


pytestmark = pytest.mark.usefixtures("these_tests_on_the_path")


@pytest.fixture(scope="module")
def pool(these_tests_on_the_path):
    with LanePool(2) as lanes:
        lanes.grow()
        yield lanes


def test_the_longest_rest_comes_first_and_ties_keep_the_pipeline_s_order():
    graph = {"LogIngest": [], "Quick.a": ["LogIngest"], "Slow.b": ["LogIngest"], "End": ["Quick.a"], "Other": []}
    assert by_longest_rest(graph, {"Slow.b": 9.0}) == ["LogIngest", "Slow.b", "Quick.a", "End", "Other"]
    assert by_longest_rest(graph, {"Quick.a": 9.0})[:3] == ["LogIngest", "Quick.a", "Slow.b"]
    assert by_longest_rest({"Pusher": [], "Trainer.x": []}, {})[0] == "Trainer.x"  # of the shipped profile's seconds


@pytest.mark.parametrize("width", [1, 2, 5])
def test_nothing_starts_before_what_it_waits_for(width):
    graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": []}
    begun, ended, said = [], [], []

    def launch(node, post):
        assert set(graph[node]) <= set(ended)
        begun.append(node)
        told = threading.Event()
        post(lambda: (said.append(node), told.set()))
        told.wait(PATIENCE_S)  # It is called once all that are ready were started.
        ended.append(node)

    run_nodes(graph, list(graph), width, launch)
    assert sorted(ended) == sorted(said) == list(graph)
    if width == 1:
        assert begun == list(graph)


def test_a_failure_lets_what_runs_end_and_starts_nothing_more():
    failed, ended = threading.Event(), []

    def launch(node, post):
        if node == "a":
            failed.set()
            raise InputError("broken")
        failed.wait(PATIENCE_S)
        ended.append(node)

    with pytest.raises(NodeFailed) as failure:
        run_nodes({"a": [], "b": [], "c": []}, ["a", "b", "c"], 2, launch)
    assert failure.value.node == "a" and isinstance(failure.value.error, InputError)
    assert ended == ["b"]


def test_a_circle_is_no_endless_wait():
    with pytest.raises(ValueError, match="wait for each other"):
        run_nodes({"a": ["b"], "b": ["a"]}, ["a", "b"], 2, lambda *_: None)


def test_two_tasks_run_at_the_same_time_in_two_processes(pool, tmp_path):
    first, second, found = tmp_path / "first", tmp_path / "second", {}

    def launch(node, post):
        pair = (first, second) if node == "a" else (second, first)
        found[node] = pool.run(meet, *pair)

    run_nodes({"a": [], "b": []}, ["a", "b"], 2, launch)
    assert {outcome.result for outcome in found.values()} == set(pool.pids)
    assert all(outcome.peak_mb is None or outcome.peak_mb > 1 for outcome in found.values())


def test_what_a_task_prints_comes_in_order_and_before_its_end(pool):
    said = []
    lines = [f"line {number}" for number in range(500)]
    pool.run(speak, *lines, "a bar\rthe bar's last state", say=said.append)
    assert said[:500] == lines
    assert sorted(said[500:]) == ["an end without a line's end", "the bar's last state"]


def test_errors_come_back_as_they_are_or_name_themselves(pool):
    with pytest.raises(InputError, match="`x` is 3: make it 4."):
        pool.run(fail, "input")
    with pytest.raises(TaskFailed, match="Picky: 1 and 2"):
        pool.run(fail, "picky")


def test_who_measures_is_alone(pool, tmp_path):
    found = {}

    def launch(node, post):
        found[node] = pool.run(count_into if node == "counts" else watch_alone, tmp_path / "number").result

    run_nodes({"counts": [], "watches": []}, ["counts", "watches"], 2, launch)
    assert found["watches"] == (True, True)


def test_a_lane_that_was_killed_is_named_with_its_signal_and_not_waited_for_by_others():
    with LanePool(1) as pool:
        for _ in range(2):
            with pytest.raises(LaneDied, match="SIGKILL, as the kernel does it where memory runs out"):
                pool.run(end_by, signal.SIGKILL)


def test_a_task_that_a_lane_cannot_read_fails_and_the_lane_goes_on(pool, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # The lanes' paths are those from before.
    name = "only_here"
    (tmp_path / f"{name}.py").write_text("def task(): pass\n")
    task = importlib.import_module(name).task
    for _ in range(3):
        with pytest.raises(ModuleNotFoundError, match=name):
            pool.run(task)
    assert pool.run(os.getpid).result in pool.pids


def test_what_runs_side_by_side_is_shown_line_by_line_under_its_name(capsys):
    display = RunDisplay()
    for state, text in (("running", ""), ("says", "epoch 1 [bold]"), ("done", "")):
        display.progress(Progress("Trainer.a", state, seconds=2.5, apart=True, text=text))
    display.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["…", "Trainer.a", "epoch", "1", "[bold]"] and second.split() == [
        "✓",
        "Trainer.a",
        "2.5",
        "s",
    ]


def test_no_lane_outlives_the_pool(tmp_path):
    with LanePool(2) as pool:
        pool.grow()
        pids = pool.pids
    assert not any(_lives(pid) for pid in pids)


SCRIPT = """
import sys, threading
from pathlib import Path
from pipeline.run.lanes.pool import LanePool
from tests.pipeline.run.test_lanes import meet
pool = LanePool(2)
pool.grow()
folder = Path(sys.argv[1])
threading.Thread(target=pool.run, args=(meet, folder / "begun", folder / "never"), daemon=True).start()
(folder / "pids.part").write_text(" ".join(map(str, pool.pids)))
(folder / "pids.part").rename(folder / "pids")
threading.Event().wait()
"""


def test_no_lane_outlives_a_main_process_that_was_killed(tmp_path):
    main = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=Path(__file__).parents[3])
    try:
        wait_for(tmp_path / "begun")
        wait_for(tmp_path / "pids")
    finally:
        main.kill()
        main.wait()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    end = time.monotonic() + PATIENCE_S
    while any(_lives(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.01)
    assert len(pids) == 2 and not any(_lives(pid) for pid in pids)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
