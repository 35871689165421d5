"""Random logs, valid and invalid, agree with the naive ingest row by row; `make drills` runs twenty thousand tables."""

from __future__ import annotations

import gc

import pytest
from hypothesis import HealthCheck, given, settings

from tests.drills.ingest.compare_logs import compare
from tests.drills.ingest.random_logs import RandomLog, random_logs


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """Takes the objects of earlier tests out of the garbage collection, through which pyarrow looks now and then."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_logs())
def test_random_logs_agree_with_the_naive_ingest(log: RandomLog):
    assert compare(log) == []


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_logs())
def test_random_logs_agree_on_beam_s_own_runner(log: RandomLog):
    assert compare(log, seed=None) == []
