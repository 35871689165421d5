"""Releases that switch and roll back under load: `python -m tests.drills.gateway.release_switch --switches 20`.

A label moves from one release to the other and back, while callers ask the gateway without pause. No request may fail,
and no answer may mix: the scores that each stage gave each listed item are those of the release that the answer names.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from serving.release.labels import promote, rollback
from tests.drills.gateway.http_load import Answer, Caller
from tests.drills.gateway.stand import command_stand, made_root

LABEL = "stable"
#: How far two answers of one release may lie apart: sums of floats in another order.
TOLERANCE = 1e-4
#: Seconds within which a label that has moved is followed, on a machine that is busy.
_FOLLOWED_S = 120.0
_STAGES = {"retrieve", "coarse", "fine"}
_USERS = [f"u{number:07d}" for number in range(1, 13)]
#: Flags of an answer that is whole; the users are in no profile store.
_WHOLE = {"unknown_user", "no_profile", "no_table", "fewer_than_k"}


def body_of(user: str, **more: Any) -> dict[str, Any]:
    """A request whose answer says what every stage gave."""
    return {"user": user, "k": 5, "explain": True, "timestamp": 1_768_500_000_000, **more}


async def expected_answers(
    caller: Caller, releases: Sequence[str], move: Callable[[int], Awaitable[str]]
) -> dict[tuple[str, str], dict[Any, dict]]:
    """What each release answers each user, asked in quiet: (release, user) → item → stage → score.

    Args:
      caller: asks.
      releases: the one that is followed now, and the other.
      move: makes the other one followed by 0, and goes back by 1.
    """
    found = {}
    for number, release in enumerate(releases):
        await _followed(caller, release)
        for user in _USERS:
            answer = await caller.post("/v1/recommend", body_of(user))
            assert answer.status == 200 and answer.body["release"] == release, answer.body
            found[release, user] = scores_of(answer)
        await move(number)
    await _followed(caller, releases[0])
    first, second = releases
    for user in _USERS:
        of_first, of_second = found[first, user], found[second, user]
        for item in set(of_first) & set(of_second):
            for stage in _STAGES:
                far = abs(of_first[item][stage] - of_second[item][stage])
                assert far > 10 * TOLERANCE, f"{stage} of the two releases cannot be told apart: {far}"
    return found


async def _followed(caller: Caller, release: str) -> None:
    until = time.monotonic() + _FOLLOWED_S
    while (answer := await caller.post("/v1/recommend", body_of(_USERS[0]))).body.get("release") != release:
        assert time.monotonic() < until, f"{release} is not followed: {answer.body}"
        await asyncio.sleep(0.1)


def scores_of(answer: Answer) -> dict[Any, dict[str, float]]:
    """Item → stage → score; checks that the answer is whole."""
    assert set(answer.body["flags"]) <= _WHOLE, answer.body["flags"]
    found = {}
    for item in answer.body["items"]:
        assert set(item["stages"]) == _STAGES, item
        found[item["item_id"]] = {stage: each["score"] for stage, each in item["stages"].items()}
    return found


def is_of_its_release(answer: Answer, user: str, expected: dict[tuple[str, str], dict[Any, dict]]) -> bool:
    """Whether all scores of an answer are those of the release that it names."""
    wanted, found = expected[answer.body["release"], user], scores_of(answer)
    return set(found) == set(wanted) and all(
        abs(found[item][stage] - wanted[item][stage]) <= TOLERANCE for item in wanted for stage in _STAGES
    )


async def drill(
    port: int,
    releases: Sequence[str],
    move: Callable[[int], Awaitable[str]],
    switches: int,
    callers: int = 4,
    say: Callable[[str], None] = print,
) -> Counter[str]:
    """Moves the label under load; returns how many answers each release gave.

    Args:
      port: of the gateway.
      releases: the ids of both.
      move: makes the switch of a number, and returns the release that is followed then.
      switches: how many there are.
      callers: that ask at a time.
      say: called with a line for each switch.

    Raises:
      AssertionError: if a request failed, or an answer mixes releases.
    """
    caller, stop = Caller(port), asyncio.Event()
    expected = await expected_answers(caller, releases, move)
    given: Counter[str] = Counter()

    async def ask(number: int) -> None:
        while not stop.is_set():
            user = _USERS[number % len(_USERS)]
            answer = await caller.post("/v1/recommend", body_of(user))
            assert answer.status == 200, f"HTTP {answer.status}: {answer.body}"
            assert is_of_its_release(answer, user, expected), f"an answer mixes releases: {answer.body}"
            given[answer.body["release"]] += 1
            number += callers

    tasks = [asyncio.create_task(ask(number)) for number in range(callers)]
    try:
        for number in range(switches):
            wanted = await move(number)
            before, begun = given[wanted], time.monotonic()
            while given[wanted] < before + 3:
                failed = [task for task in tasks if task.done()]
                for task in failed:
                    task.result()
                assert time.monotonic() - begun < _FOLLOWED_S, f"{wanted} is not followed"
                await asyncio.sleep(0.02)
            say(f"switch {number + 1}: {wanted} answers, {sum(given.values())} answers so far, none failed or mixed")
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await caller.close()
    return given


def mover(root: Path, releases: Sequence[str]) -> Callable[[int], Awaitable[str]]:
    """Moves the label to the second release, back by a rollback, and so on."""

    async def move(number: int) -> str:
        if number % 2:
            await asyncio.to_thread(rollback, str(root), LABEL, by="drill")
            return releases[0]
        await asyncio.to_thread(promote, str(root), releases[1], LABEL, by="drill")
        return releases[1]

    return move


def main(argv: list[str] | None = None) -> int:
    """Runs the drill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--work", type=Path, help="where the releases are made, and found the next time")
    options = parser.parse_args(argv)
    with made_root(options.work) as (root, found):
        releases = [release.id for release in found]
        promote(str(root), releases[0], LABEL, by="drill")
        settings = root.parent / "settings.yaml"
        settings.write_text("deadline_ms: 20000\ndeadlines: {lookup_ms: 5000, retrieve_ms: 5000, coarse_ms: 5000, ")
        with settings.open("a") as file:
            file.write("fine_ms: 5000, explain_ms: 20000}\npoll_s: 0.2\n")
        with command_stand(root, "--label", LABEL, "--settings", str(settings)) as stand:
            given = asyncio.run(drill(stand.port, releases, mover(root, releases), options.switches))
    print(f"{options.switches} switches, {sum(given.values())} answers ({dict(given)}), 0 failed, 0 mixed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
