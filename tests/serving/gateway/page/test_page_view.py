"""What the page makes of an answer: places, marks and figures that can be worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.page.page_figures import MOST_LINES, journeys
from serving.gateway.page.side_by_side import side_by_side
from serving.gateway.page.view import answer_view, arrow
from serving.gateway.page.words import FLAGS, flag_words
from serving.gateway.schema import AttentionPair, Flag, Recommendation, RecommendedItem, StagedItem, StageScore
from serving.release.manifest import Release, ReleasedModel

RELEASE = Release(
    id="r1",
    created="2026-11-26T07:30:00+00:00",
    models=(
        ReleasedModel(name="tt", stage="retrieval", version=7, path="tt/7"),
        ReleasedModel(name="fine", stage="fine", version=9, path="fine/9"),
    ),
    cascade_models={"retrieval": "tt", "fine": "fine"},
)


def pair(weight, head=0):
    return AttentionPair(field="brand", attends_to="price", layer=1, head=head, weight=weight)


def item(item_id, position, ranks, attention=None):
    stages = {name: StageScore(score=-rank, rank=rank) for name, rank in ranks.items()}
    return RecommendedItem(item_id=item_id, position=position, score=0.5, stages=stages, attention=attention)


def answer(ids, release="r1", **more):
    items = [item(each, place, {"retrieve": 10 + place, "fine": place + 1}) for place, each in enumerate(ids)]
    return Recommendation(request_id="q", release=release, items=items, scored={"retrieve": 50, "fine": 20}, **more)


def view(ids, **more):
    return answer_view(answer(ids, **more), RELEASE, [], {})


def test_marks_say_where_an_item_goes():
    found = side_by_side(view("abcd"), view("aebc"))
    told = [
        (here and (here.line.name, here.kind, here.text), there and (there.line.name, there.kind, there.text))
        for _, here, there in found.rows
    ]
    assert told == [
        (("a", "same", "same place"), ("a", "same", "same place")),
        (("b", "down", "▼ 1, to place 3"), ("e", "only", "new in the list")),
        (("c", "down", "▼ 1, to place 4"), ("b", "down", "▼ 1, from place 2")),
        (("d", "only", "leaves the list"), ("c", "down", "▼ 1, from place 3")),
    ]
    assert (found.shared, found.kept, found.same_release) == (3, 1, True)


@settings(deadline=None)
@given(st.permutations("abcdefgh"), st.permutations("defghijk"), st.integers(0, 8), st.integers(0, 8))
def test_both_sides_agree(left, right, here_length, there_length):
    """An item that climbs does so on both sides; what only one list has is in no other."""
    here, there = left[:here_length], right[:there_length]
    found = side_by_side(view(here), view(there))
    assert [mark.line.name for _, mark, _ in found.rows if mark] == here
    assert [mark.line.name for _, _, mark in found.rows if mark] == there
    kinds = [{mark.line.name: mark.kind for row in found.rows if (mark := row[side])} for side in (1, 2)]
    for name in set(here) & set(there):
        climbed = here.index(name) - there.index(name)
        assert kinds[0][name] == kinds[1][name] == ("same" if not climbed else "up" if climbed > 0 else "down")
    assert {name for name, kind in kinds[0].items() if kind == "only"} == set(here) - set(there)
    assert found.shared == len(set(here) & set(there))


def test_what_each_stage_kept_and_how_items_moved():
    seen = view("ab", stage_ms={"fine": 2.0, "retrieve": 1.0, "total": 5.0})
    kept = [(stage.title, stage.model, stage.scored, stage.passed, stage.ms) for stage in seen.stages]
    assert kept == [("Retrieval", "tt 7", 50, 20, 1.0), ("Fine ranking", "fine 9", 20, 2, 2.0)]
    assert [line.climb for line in seen.items] == ["▲ 9", "▲ 9"]
    assert [text for _, text in seen.times.panels[0].y.ticks] == ["Retrieval", "Fine ranking", "The whole request"]


def test_what_became_of_the_best_of_a_stage():
    leading = [
        StagedItem(item_id="a", stages={"retrieve": StageScore(score=2, rank=2), "fine": StageScore(score=9, rank=1)}),
        StagedItem(item_id="x", stages={"retrieve": StageScore(score=3, rank=1)}),
        StagedItem(item_id="y", stages={"retrieve": StageScore(score=1, rank=3), "fine": StageScore(score=1, rank=2)}),
    ]
    (_, retrieved), (_, fine) = view("a", leading=leading).leading
    assert [(line.name, line.fate) for line in retrieved] == [("x", "dropped by retrieval")]
    assert [(line.name, line.fate) for line in fine] == [("a", "place 1")]
    (_, retrieved), _ = view("abc", leading=leading).leading
    fates = [(line.name, line.fate) for line in retrieved]
    assert fates == [("x", "dropped by retrieval"), ("a", "place 1"), ("y", "dropped by fine ranking")]


def test_pairs_are_counted_over_the_list():
    items = [item("a", 0, {}, [pair(0.8), pair(0.3, head=1)]), item("b", 1, {}, [pair(0.4)]), item("c", 2, {}, None)]
    seen = answer_view(Recommendation(request_id="q", release="r1", items=items), RELEASE, [], {})
    assert [(line.pair.head, line.items) for line in seen.pairs] == [(0, 2), (1, 1)]
    assert [line.weight for line in seen.pairs] == pytest.approx([0.6, 0.3])
    assert seen.stages == () and seen.journeys is None and seen.times is None


def test_features_of_items_are_short():
    features = {"a": {"item_id": "a", "price": 5.0, "title": ["red", "shoe"], "brand": None, "text": "x" * 99}}
    (line,) = answer_view(answer("a"), RELEASE, [], features).items
    assert line.features == "price 5 · red shoe · " + "x" * 39 + "…"


def test_a_figure_holds_every_rank():
    items = [(f"i{n}", [1000 - n, None, n + 1]) for n in range(50)]
    figure = journeys(["Retrieval", "Coarse", "Fine"], items)
    (panel,) = figure.panels
    assert len(panel.marks) == MOST_LINES
    places = [panel.y.place(rank) for mark in panel.marks for rank in mark.y if rank is not None]
    assert min(places) >= 0 and max(places) <= 1 and panel.y.place(1) > panel.y.place(1000)
    assert journeys(["Fine"], items) is None and journeys(["Retrieval", "Fine"], []) is None


@pytest.mark.parametrize("flag", list(Flag))
def test_every_flag_has_words(flag):
    assert flag in FLAGS and flag_words(flag).endswith(".")


@pytest.mark.parametrize("moved, mark", [(None, ""), (0, "="), (3, "▲ 3"), (-1200, "▼ 1,200")])
def test_arrows(moved, mark):
    assert arrow(moved) == mark
