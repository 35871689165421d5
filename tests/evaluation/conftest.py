import pytest

from tests.builders.predictions import simulate, with_column


@pytest.fixture(name="simulate")
def _simulate():
    return simulate


@pytest.fixture(name="with_column")
def _with_column():
    return with_column
