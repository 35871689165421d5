"""Places are handed on in the order of asking, and none is lost, whoever goes away when."""

import asyncio
import random
import time

import pytest

from serving.gateway.admission import Admission
from serving.gateway.refusal import GatewayError


def soon(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


def test_first_come_first_served_and_the_rest_refused():
    async def run():
        admission, order, done = Admission(2, 3), [], asyncio.Event()

        async def ask(number):
            async with admission.place(soon()):
                order.append(number)
                await done.wait()

        asked = [asyncio.create_task(ask(number)) for number in range(9)]
        await asyncio.sleep(0)
        assert order == [0, 1] and (admission.working, admission.waiting) == (2, 3)
        done.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [getattr(each, "status", 200) for each in found] == [200] * 5 + [429] * 4
        assert order == [0, 1, 2, 3, 4] and (admission.working, admission.waiting) == (0, 0)

    asyncio.run(run())


def test_no_time_left_is_told():
    async def run():
        admission = Admission(1, 3)
        async with admission.place(soon()):
            for until in (soon(0.01), time.monotonic() - 1):
                with pytest.raises(GatewayError, match="no place was free") as caught:
                    async with admission.place(until):
                        raise AssertionError("there was no place")
                assert caught.value.status == 504
        assert (admission.working, admission.waiting) == (0, 0)

    asyncio.run(run())


def test_who_would_be_late_is_refused_at_once():
    async def run():
        admission = Admission(1, 100)
        async with admission.place(soon()):
            await asyncio.sleep(0.05)
        async with admission.place(soon()):
            with pytest.raises(GatewayError) as caught:
                async with admission.place(soon(0.06)):  # It takes twice .05: a turn, and its own work.
                    raise AssertionError("there was no place")
            assert caught.value.status == 429 and admission.waiting == 0
            waits = asyncio.create_task(admission.place(soon()).__aenter__())
            await asyncio.sleep(0)
            assert admission.waiting == 1
        await waits

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_no_place_is_lost_whoever_goes_away_when(seed):
    chance = random.Random(seed)

    async def run():
        admission, most = Admission(3, 1000), 0

        async def ask():
            nonlocal most
            async with admission.place(soon(chance.choice([0.0, 0.001, 60.0]))):
                most = max(most, admission.working)
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)

        asked = [asyncio.create_task(ask()) for _ in range(60)]
        for _ in asked:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                chance.choice(asked).cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert most <= 3 and (admission.working, admission.waiting) == (0, 0)
        async with admission.place(soon()):
            assert admission.working == 1

    asyncio.run(run())
