"""Every failure of the gateway's HTTP interface is one form of JSON that names what is wrong, the value and the fix."""

import asyncio
import json

import httpx
import pytest

from features.errors import InputError, RunError
from serving.gateway.web.application import make_app
from serving.gateway.web.error_answers import CODES, ErrorAnswer
from serving.requests.json_request import RequestError
from tests.serving.gateway.web.scripted_gateway import ScriptedGateway, asked

JSON = {"content-type": "application/json"}
EVENT = {"user": "u1", "timestamp": 1_700_000_000_000, "item_id": "i1"}


def error_of(answer: httpx.Response, status: int) -> ErrorAnswer:
    """The error of an answer, checked for what all have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = ErrorAnswer.model_validate_json(answer.content).error
    assert found.code == CODES[status] and found.message and "Traceback" not in answer.text
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    return found


BODIES = [
    (b"", 422, ["the body: Field required", "Received: nothing"]),
    (b"{", 400, ["not valid JSON", "line 1 column 1"]),
    (b'{"k": NaN}', 400, ["not valid JSON", "line 1 column 7"]),
    (b'{"user": "\\ud800"}', 400, ["not valid JSON", "hex escape"]),
    (b'{"user": "\xff"}', 400, ["not valid JSON", "unicode"]),
    (b'{"k": 1' + b"0" * 5000 + b"}", 400, ["not valid JSON", "number out of range"]),
    (b"[" * 100_000, 400, ["not valid JSON", "recursion limit"]),
    (b"[]", 422, ["the body", "[]"]),
    (b'{"k": 0}', 422, ["`k`", "greater than or equal to 1", "Received: 0"]),
    (b'{"usr": "u1"}', 422, ["`usr`", "not a known key", "Did you mean `user`?"]),
    (b'{"k": "many", "context": 3}', 422, ["And 1 more"]),
    (b'{"context": {"\\u0000": 1}, "k": []}', 422, ["`k`", "Received: []"]),
]


@pytest.mark.parametrize(("body", "status", "told"), BODIES, ids=range(len(BODIES)))
def test_a_body_that_cannot_be_used_is_told_where_and_why(body, status, told):
    gateway = ScriptedGateway()
    found = error_of(asked(gateway, "POST", "/v1/recommend", content=body, headers=JSON), status)
    assert all(each in found.message for each in told), found.message
    assert gateway.received == []
    assert bool(found.problems) == (status == 422)


def test_problems_name_the_key_inside_a_list():
    events = [EVENT, EVENT | {"timestamp": "yesterday"}]
    found = error_of(asked(ScriptedGateway(), "POST", "/v1/behaviors", json={"events": events}), 422)
    (problem,) = found.problems
    assert problem.where == "events.1.timestamp" and problem.received == "'yesterday'"


def test_a_thousand_problems_are_told_in_short():
    events = [{"user": "u" * 1500}] * 1000
    answer = asked(ScriptedGateway(), "POST", "/v1/behaviors", json={"events": events})
    found = error_of(answer, 422)
    assert len(found.problems) == 20 and "And 2999 more" in found.message and len(answer.content) < 20_000


@pytest.mark.parametrize("given", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
def test_a_body_that_is_not_declared_as_json_is_refused(given):
    answer = asked(ScriptedGateway(), "POST", "/v1/recommend", content=b"{}", headers={"content-type": given})
    assert "Content-Type: application/json" in error_of(answer, 415).message


def test_a_packed_body_is_refused():
    answer = asked(ScriptedGateway(), "POST", "/v1/rank", content=b"x", headers=JSON | {"content-encoding": "gzip"})
    assert "'gzip'" in error_of(answer, 415).message


def test_json_with_a_character_set_is_json():
    more = {"content": b"{}", "headers": {"content-type": "Application/JSON; charset=utf-8"}}
    assert asked(ScriptedGateway(), "POST", "/v1/recommend", **more).status_code == 200


def test_unknown_paths_and_methods():
    found = error_of(asked(ScriptedGateway(), "GET", "/v2/recommend"), 404)
    assert "GET /v2/recommend" in found.message and "/docs" in found.message
    answer = asked(ScriptedGateway(), "GET", "/v1/recommend")
    assert "POST" in error_of(answer, 405).message and answer.headers["allow"] == "POST"
    assert "DELETE" in error_of(asked(ScriptedGateway(), "DELETE", "/healthz"), 405).message


class Late(RunError):
    status = 504


class Full(RunError):
    status, retry_after_s = 429, 2.5


RAISED = [
    (RequestError("`price`: a number. Received: 'x'."), 400),
    (InputError("no"), 400),
    (Late("the deadline of 500 ms passed"), 504),
    (Full("64 requests wait already"), 429),
    (RunError("the server does not answer"), 503),
    (KeyError("secret"), 500),
    (RecursionError(), 500),
]


@pytest.mark.parametrize(("error", "status"), RAISED, ids=[type(each).__name__ for each, _ in RAISED])
def test_what_is_raised_becomes_a_status_and_a_message(error, status):
    def fail(_):
        raise error

    for path, body in (("recommend", {}), ("rank", {"candidates": []}), ("behaviors", {"events": [EVENT]})):
        answer = asked(ScriptedGateway(fail), "POST", f"/v1/{path}", json=body)
        found = error_of(answer, status)
        if status == 500:
            assert type(error).__name__ in found.message and "secret" not in answer.text
        else:
            assert found.message == str(error)
    if status == 429:
        assert answer.headers["retry-after"] == "3"


def test_a_body_larger_than_the_bound_is_refused():
    gateway = ScriptedGateway(max_body_bytes=1024)
    fits = json.dumps({"request_id": "x", "context": {"a": "b" * 900}}).encode()
    assert asked(gateway, "POST", "/v1/recommend", content=fits, headers=JSON).status_code == 200
    for size in (1025, 2000, 4097, 100_000):
        answer = asked(gateway, "POST", "/v1/recommend", content=b" " * size, headers=JSON)
        assert "1,024 bytes" in error_of(answer, 413).message and answer.headers["connection"] == "close"
    assert len(gateway.received) == 1


def test_requests_beyond_the_bound_are_refused_and_probes_are_not():
    async def act():
        hold, begun = asyncio.Event(), asyncio.Semaphore(0)

        async def wait():
            begun.release()
            await hold.wait()

        gateway = ScriptedGateway(lambda _: wait(), max_concurrent=2, max_waiting=1)
        transport = httpx.ASGITransport(make_app(gateway))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            let_in = [asyncio.create_task(client.post("/v1/recommend", json={})) for _ in range(3)]
            for _ in let_in:
                await begun.acquire()
            error = error_of(await client.post("/v1/behaviors", json={"events": [EVENT]}), 429)
            assert "3 requests" in error.message
            counted = (await client.get("/metrics")).text
            assert 'clickmill_gateway_requests_total{kind="behaviors",status="429"} 1.0' in counted
            assert (await client.get("/healthz")).status_code == 200
            hold.set()
            assert [(await each).status_code for each in let_in] == [200] * 3
            assert (await client.post("/v1/recommend", json={})).status_code == 200

    asyncio.run(act())


def test_the_health_of_a_gateway_that_is_not_ready():
    gateway = ScriptedGateway(missing=("the model server at 127.0.0.1:8500 does not answer", "no release is open"))
    assert asked(gateway, "GET", "/healthz").text == "ok\n"
    found = error_of(asked(gateway, "GET", "/readyz"), 503)
    assert found.message == "not ready: the model server at 127.0.0.1:8500 does not answer; no release is open"
    assert asked(ScriptedGateway(), "GET", "/readyz").text == "ok\n"
