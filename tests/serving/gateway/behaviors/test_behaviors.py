"""Behaviours that are appended one by one: the stores are those that a rebuild of the whole log would make."""

import asyncio

import numpy as np
import pytest

from features.errors import RunError
from serving.gateway.behaviors import BehaviorWriter
from serving.requests.json_request import RequestError
from serving.user_stores import user_store
from serving.user_stores.bse.store import BseStore
from serving.user_stores.environment import StoreError
from tests.builders.behavior_case import START
from tests.serving.gateway.behaviors.append_case import (
    VERSION,
    Encodes,
    OpenShop,
    append_all,
    build_shop,
    contents,
    posted,
    random_events,
)


@pytest.fixture(scope="module")
def events():
    return random_events(600, users=25)


@pytest.fixture(scope="module")
def rebuilt(events, tmp_path_factory):
    root = tmp_path_factory.mktemp("rebuilt")
    build_shop(root, events)
    return contents(root)


def appended(root, events, each=7):
    with OpenShop(root) as view:
        return asyncio.run(append_all(view, events, each=each))


@pytest.mark.parametrize("known, each", [(0, 1), (200, 7), (590, 100)])
def test_what_is_appended_is_what_a_rebuild_makes(tmp_path, events, rebuilt, known, each):
    build_shop(tmp_path, events[:known])
    assert appended(tmp_path, events[known:], each) <= len(events) - known
    assert contents(tmp_path) == rebuilt
    assert len(rebuilt[0]) > 10 and len(rebuilt[1]) > 15


def test_the_order_in_which_they_come_does_not_matter(tmp_path, events, rebuilt):
    build_shop(tmp_path, [])
    order = np.random.default_rng(1).permutation(len(events))
    appended(tmp_path, [events[place] for place in order])
    tables, profiles = contents(tmp_path)
    assert tables == rebuilt[0]
    # Of one time they stand as they came, which is another order here.
    assert profiles.keys() == rebuilt[1].keys()


def test_what_comes_twice_counts_once(tmp_path, events, rebuilt):
    build_shop(tmp_path, events[:300])
    assert 0 < appended(tmp_path, events[300:]) <= 300
    assert appended(tmp_path, events[300:]) == 0
    assert appended(tmp_path, events[:300]) == 0
    with OpenShop(tmp_path) as view:
        assert asyncio.run(append_all(view, [events[-1], events[-1]], each=2)) == 0
    assert contents(tmp_path) == rebuilt


def test_the_next_request_sees_it(tmp_path, events):
    build_shop(tmp_path, events[:300])

    async def append(view):
        writer = await BehaviorWriter.open(view, Encodes())
        for number in range(6):
            before = view.tables.get("user 0").counts.sum() if number else None
            answer = await writer.append(posted([("user 0", START + 10**9 + number, f"item {number}")]))
            assert (answer.appended, answer.users, answer.release) == (1, 1, "release 1")
            assert view.profiles.get("user 0").behaviors[-1] == {
                "timestamp": START + 10**9 + number,
                "item_id": f"item {number}",
                "tags": [*range(number % 3)],
            }
            assert before is None or view.tables.get("user 0").counts.sum() <= before + 16
        late = await writer.append(posted([("user 0", START - 10**9, "item 1")]))
        assert (late.appended, late.users) == (0, 0), "the window is full of newer ones"
        assert view.profiles.get("nobody before") is None
        await writer.append(posted([("nobody before", START, "item 1"), ("nobody before", START - 5, "item 2")]))
        assert [each["item_id"] for each in view.profiles.get("nobody before").behaviors] == ["item 2", "item 1"]
        writer.close()

    with OpenShop(tmp_path) as view:
        asyncio.run(append(view))


def test_an_event_of_another_form_is_refused_whole(tmp_path):
    build_shop(tmp_path, [])

    async def append(view):
        writer = await BehaviorWriter.open(view, Encodes())
        good, wrong = posted([("u", START, "item 1"), ("u", START, "item 2")])
        for features, named in [({"colour": "red"}, "colour"), ({"tags": "red"}, "tags")]:
            with pytest.raises(RequestError, match=named):
                await writer.append([good, wrong.model_copy(update={"features": features})])
        with pytest.raises(RequestError, match="item_id"):
            await writer.append([good, wrong.model_copy(update={"item_id": 7})])
        writer.close()
        assert view.profiles.get("u") is None

    with OpenShop(tmp_path) as view:
        asyncio.run(append(view))


def test_tables_wait_for_a_ranker_that_does_not_answer(tmp_path, events, rebuilt, caplog):
    build_shop(tmp_path, events[:300])

    async def append(view):
        client = Encodes()
        client.error = RunError("UNAVAILABLE: nobody is there")
        writer = await BehaviorWriter.open(view, client)
        for start in range(300, 600, 50):
            await writer.append(posted(events[start : start + 50]))
        assert "lag behind: UNAVAILABLE" in caplog.text
        assert contents(tmp_path)[1] == rebuilt[1]
        assert contents(tmp_path)[0] != rebuilt[0]
        client.error = None
        await writer.catch_up()
        writer.close()

    with OpenShop(tmp_path) as view:
        asyncio.run(append(view))
    assert contents(tmp_path) == rebuilt


@pytest.mark.parametrize("snapshot", [200, 350, 450])
def test_a_rebuild_loses_nothing_and_counts_nothing_twice(tmp_path, events, rebuilt, snapshot, monkeypatch):
    """The new builds hold nothing, some, or more of what was appended so far."""
    monkeypatch.setattr(user_store, "LOOK_SECONDS", 0.0)
    build_shop(tmp_path, events[:200])

    async def append(view):
        writer = await BehaviorWriter.open(view, Encodes())
        for start in range(200, 400, 40):
            await writer.append(posted(events[start : start + 40]))
        seen = contents(tmp_path)
        build_shop(tmp_path, events[:snapshot])
        # Who reads sees what was appended all the time: the new builds are not read before they hold it too.
        assert {user: view.profiles.record(user) for user in seen[1]} == seen[1]
        for start in range(400, 600, 40):
            await writer.append(posted(events[start : start + 40]))
            newest = view.profiles.get(events[start + 39][0]).behaviors
            assert newest and newest[-1]["timestamp"] >= events[start + 39][1]
        writer.close()
        return {user: view.profiles.record(user) for user in rebuilt[1]}

    with OpenShop(tmp_path) as view:
        assert asyncio.run(append(view)) == rebuilt[1]
    assert contents(tmp_path) == rebuilt


def test_a_store_of_another_version_takes_in_the_whole_log(tmp_path, events, rebuilt):
    """A release switch: the tables of the next ranker were built from an older log."""
    build_shop(tmp_path, events[:100])
    appended(tmp_path, events[100:])
    moved = tmp_path / "moved"
    build_shop(moved, events[:50])
    (moved / "tables").rename(tmp_path / "tables of the next")
    (tmp_path / "tables").rename(tmp_path / "tables of before")
    (tmp_path / "tables of the next").rename(tmp_path / "tables")
    with OpenShop(tmp_path) as view:
        asyncio.run(append_all(view, []))
    # What was in neither, events 50 to 100, nobody appended.
    build_shop(moved, [*events[:50], *events[100:]])
    assert contents(tmp_path)[0] == contents(moved)[0]


def test_many_writers_at_once(tmp_path, events, rebuilt):
    build_shop(tmp_path, events[:300])

    async def append(view):
        writers = [await BehaviorWriter.open(view, Encodes()) for _ in range(3)]

        async def work(writer, mine):
            for event in mine:
                await writer.append(posted([event]))

        await asyncio.gather(*(work(w, events[300 + i : 400 : 3]) for i, w in enumerate(writers)))
        for writer in writers:
            writer.close()

    with OpenShop(tmp_path) as view:
        asyncio.run(append(view))
    assert appended(tmp_path, events[400:]) > 0
    assert contents(tmp_path)[0] == rebuilt[0]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_coarser_tables_too_are_those_of_a_rebuild(tmp_path, events, precision):
    build_shop(tmp_path / "whole", events, precision)
    build_shop(tmp_path, events[:300], precision)
    appended(tmp_path, events[300:])
    assert contents(tmp_path) == contents(tmp_path / "whole")


def test_a_damaged_window_is_found(tmp_path, events):
    build_shop(tmp_path, events[:100])
    with BseStore(tmp_path / "tables", VERSION) as store:
        assert store.verify().num_faults == 0
        environment = store._opened.environment
        environment.write(lambda transaction: transaction.put(b"suser 3", b"\0" * 40, db=environment.states))
        assert store.verify().faults == [("user 3", "its window: the checksum of a state is wrong")]
        with pytest.raises(StoreError, match="the checksum of a state is wrong"):
            store.plan(b"log", 1, [("user 3", {"timestamp": START, "item_id": "item 1"})])


def test_stores_that_cannot_be_appended_to(tmp_path, events):
    build_shop(tmp_path, events[:50])
    with OpenShop(tmp_path) as view:
        profiles, view.profiles = view.profiles, None
        with pytest.raises(StoreError, match="no profiles"):
            BehaviorWriter(view, Encodes())
        view.profiles = profiles
        # Tables of before there were windows: histories alone are appended to.
        tables, view.tables = view.tables, None
        asyncio.run(append_all(view, events[50:60]))
        view.tables = tables
    with BseStore(tmp_path / "tables", VERSION) as store:
        assert store.is_appendable
