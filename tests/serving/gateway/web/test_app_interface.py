"""The page of the interface: whole for programs, and readable without the internet."""

import re

import pytest

from serving.gateway.schema import Flag
from tests.serving.gateway.web.scripted_gateway import ScriptedGateway, asked


@pytest.fixture(scope="module")
def interface():
    return asked(ScriptedGateway(), "GET", "/openapi.json").json()


def test_every_path_is_described_with_all_its_answers(interface):
    assert set(interface["paths"]) == {
        *("/v1/recommend", "/v1/rank", "/v1/behaviors", "/healthz", "/readyz", "/metrics")
    }
    for path, methods in interface["paths"].items():
        (found,) = methods.values()
        assert found["summary"]
        if path.startswith("/v1/"):
            assert set(found["responses"]) >= {"200", "400", "404", "413", "415", "422", "429", "500", "503", "504"}
            for status, answer in found["responses"].items():
                kind = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert (kind == "ErrorAnswer") == (status != "200")


def test_every_key_of_a_request_is_described(interface):
    schemas = interface["components"]["schemas"]
    for name in ("RecommendRequest", "RankRequest", "BehaviorEvent", "BehaviorsRequest"):
        for key, found in schemas[name]["properties"].items():
            assert found.get("description"), f"{name}.{key}"
        assert schemas[name]["additionalProperties"] is False
    assert set(schemas["Flag"]["enum"]) == {flag.value for flag in Flag}


def test_the_page_asks_nothing_of_another_site():
    gateway = ScriptedGateway()
    page = asked(gateway, "GET", "/docs").text
    assert not re.findall(r"""(?:src|href|url)["']?\s*[=:]\s*["'](?:https?:)?//""", page, re.IGNORECASE)
    links = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
    assert len(links) >= 3
    for link in links:
        assert asked(gateway, "GET", link).status_code == 200
    assert '"validatorUrl": null' in page
