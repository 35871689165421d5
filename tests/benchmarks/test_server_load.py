"""What the load benchmark sends, and how it reads what the tools say."""

import numpy as np
import pytest

from benchmarks.serving import server_load
from benchmarks.serving.load_tools import of_ghz, of_h2load
from benchmarks.serving.slates import columnar, merged, slate, user_repeated

OF_CANDIDATES = {"price", "title"}


@pytest.fixture
def tensors():
    """Two requests; the second has the longer slate, of two candidates, and padding behind both."""
    return {
        "city": np.array([b"K\xc3\xb6ln", b"Bonn"], object),
        "price": np.array([[1.0, 9.0, 9.0], [2.0, 3.0, 9.0]], np.float32),
        "title": np.arange(12).reshape(2, 3, 2),
        "short_length": np.array([4, 5], np.int32),
        "num_candidates": np.array([1, 2], np.int32),
    }


def test_a_slate_repeats_the_longest_and_leaves_padding_out(tensors):
    made = slate(tensors, OF_CANDIDATES, 5)
    assert made["price"].tolist() == [[2.0, 3.0, 2.0, 3.0, 2.0]] and made["title"].shape == (1, 5, 2)
    assert made["city"].tolist() == [b"Bonn"] and made["short_length"].tolist() == [5]
    assert made["num_candidates"].tolist() == [5] and made["num_candidates"].dtype == np.int32


def test_a_repeated_user_stands_beside_every_candidate(tensors):
    made = user_repeated(slate(tensors, OF_CANDIDATES, 3), OF_CANDIDATES)
    assert made["price"].tolist() == [[2.0], [3.0], [2.0]] and made["title"].shape == (3, 1, 2)
    assert made["city"].tolist() == [b"Bonn"] * 3 and made["num_candidates"].tolist() == [1, 1, 1]
    assert {len(values) for values in made.values()} == {3}


def test_merged_requests_share_their_first_dimension(tensors):
    made = merged(slate(tensors, OF_CANDIDATES, 3), 4)
    assert {len(values) for values in made.values()} == {4} and made["price"].shape == (4, 3)


def test_rest_gets_text_and_numbers(tensors):
    made = columnar(tensors)
    assert made["city"] == ["Köln", "Bonn"] and made["num_candidates"] == [1, 2]
    assert columnar({"empty": np.zeros((1, 0), object)}) == {"empty": [[]]}


def test_a_report_of_ghz_counts_answers_alone():
    found = of_ghz(
        {
            "total": 2_000_000_000,
            "rps": 500.0,
            "statusCodeDistribution": {"OK": 900, "ResourceExhausted": 100},
            "latencyDistribution": [{"percentage": 50, "latency": 4_000_000}, {"percentage": 99, "latency": 9_500_000}],
        }
    )
    assert found == {"per_second": 450.0, "p50_ms": 4.0, "p99_ms": 9.5, "errors": {"ResourceExhausted": 100}}
    nobody = of_ghz({"total": 10**9, "statusCodeDistribution": {"Unavailable": 3}, "latencyDistribution": None})
    assert nobody == {"per_second": 0.0, "p50_ms": None, "p99_ms": None, "errors": {"Unavailable": 3}}


@pytest.mark.parametrize("took, seconds", [("2.00s", 2.0), ("500.00ms", 0.5), ("1.00m", 60.0)])
def test_a_run_of_h2load_is_read_from_its_log(took, seconds):
    log = "".join(f"17000{number}\t200\t{1000 * number}\n" for number in range(1, 101)) + "17\t429\t5\n18\t-1\t7\n"
    found = of_h2load(f"starting benchmark...\nfinished in {took}, 50.00 req/s, 1.00MB/s\n", log)
    assert found["per_second"] == pytest.approx(100 / seconds)
    assert (found["p50_ms"], found["p99_ms"]) == (50.5, 100.0) and found["errors"] == {"429": 1, "-1": 1}


def test_figures_are_shares_of_the_same_run():
    def cell(per_second, p50):
        return {"per_second": per_second, "p50_ms": p50, "p99_ms": 2 * p50}

    cells = {}
    for callers in server_load.CALLERS:
        cells[f"in process, 200 candidates, {callers} callers"] = cell(100.0, 5.0)
        cells[f"gRPC, 200 candidates, {callers} callers"] = cell(95.0, 5.5)
    cells["gRPC, user repeated, 1 callers"] = cell(10.0, 55.0)
    cells["gRPC, 200 candidates, 8 callers, 1 workers"] = cell(47.5, 11.0) | {"errors": {"Unavailable": 2}}
    rows = dict(server_load.figures({"server": "clickmill serve", "cells": cells}))
    assert rows["clickmill serve, 200 candidates, 1 caller: p50 over in process"] == "gRPC 1.10 (in process 5.0 ms)"
    assert rows["clickmill serve, 200 candidates, 32 callers: answers a second over in process"].startswith("gRPC 0.95")
    repeated = rows["clickmill serve, 200 candidates, gRPC, the user sent with every candidate"]
    assert repeated == "10.0 × the time of sending it once (5.5 ms)"
    assert rows["clickmill serve, gRPC, 200 candidates, 8 callers, 1 workers"].startswith("0.50 ×")
    assert rows["clickmill serve, calls that failed, of all cells"] == "2"


def test_rounds_become_medians_and_failures_are_added_up():
    rounds = [{"per_second": n, "p50_ms": n, "p99_ms": None, "errors": {"429": 1}} for n in (3.0, 1.0, 2.0)]
    assert server_load.median_of(rounds) == {"per_second": 2.0, "p50_ms": 2.0, "errors": {"429": 3}}
