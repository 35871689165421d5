"""A measurement in a process of its own: its answer comes back, its failure is not lost."""

import subprocess

import numpy as np
import pytest

from benchmarks.processes import Stopwatch, in_own_process, peak_mb


def twice(number: int, text: str) -> dict:
    return {"number": 2 * number, "text": text, "peak_mb": peak_mb()}


def fails() -> dict:
    raise ValueError("not today")


def test_arguments_go_there_and_the_answer_comes_back(tmp_path):
    large = np.ones(200_000_000)  # 1.6 GB of this process are not the other's
    assert large[-1] == 1 and peak_mb() > 1500
    found = in_own_process(twice, 21, tmp_path / "log")
    assert found["number"] == 42 and found["text"] == str(tmp_path / "log") and 5 < found["peak_mb"] < 1000


def test_a_failure_says_why(capfd):
    with pytest.raises(subprocess.CalledProcessError):
        in_own_process(fails)
    assert "not today" in capfd.readouterr().err


def test_a_stopwatch_counts_processor_time():
    clock = Stopwatch()
    sum(range(2_000_000))
    took = clock.read()
    assert 0 < took["cpu_seconds"] < 60 and took["seconds"] > 0
