"""Two releases, their server and the page of a gateway, for the tests of the page."""

import pytest

from tests.serving.gateway.page import page_case


@pytest.fixture(scope="session")
def page_root(cascade_work, tmp_path_factory):
    """A serving root with two releases. Not to be written to."""
    root = tmp_path_factory.mktemp("page") / "serving"
    page_case.publish_two(cascade_work, root)
    return root


@pytest.fixture(scope="session")
def page_server(page_root):
    with page_case.served(page_root) as address:
        yield address


@pytest.fixture(scope="session")
def exposures(tmp_path_factory):
    """Where the gateway of the page logs what it shows to users."""
    return tmp_path_factory.mktemp("page") / "exposures"


@pytest.fixture(scope="session")
def site(page_root, page_server, exposures, on_loop):
    """The address of the page."""
    with page_case.on_a_port(page_root, page_server, on_loop, exposure_log=str(exposures)) as url:
        yield url
