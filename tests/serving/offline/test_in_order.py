"""Work on one request at a time, several at once."""

import threading

import pytest

from serving.offline.in_order import in_order


def test_results_come_in_the_order_of_the_items_whoever_is_done_first():
    second_is_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_is_done.wait(30)
        if number == 1:
            second_is_done.set()
        return number * number

    assert list(in_order(work, range(100))) == [number * number for number in range(100)]
    assert list(in_order(work, [])) == []


def test_what_fails_is_raised_in_its_turn_and_the_rest_is_not_begun():
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        return 1 // (number - 3)

    found = []
    with pytest.raises(ZeroDivisionError):
        for each in in_order(work, range(10_000)):
            found.append(each)
    assert len(found) == 3 and len(begun) < 1000


def test_no_more_is_taken_than_is_worked_on():
    taken = []

    def items():
        for number in range(10_000):
            taken.append(number)
            yield number

    found = in_order(lambda number: number, items())
    assert next(found) == 0 and len(taken) < 1000
    found.close()
