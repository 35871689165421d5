"""One answer of the gateway as the page shows it: lines of tables, in words and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.report import format as fmt
from evaluation.report.plots import Figure
from serving.cascade import COARSE, FINE, RETRIEVE
from serving.gateway.page.page_figures import journeys, times
from serving.gateway.page.words import SHORT, STAGES, flag_words, stage_title
from serving.gateway.schema import AttentionPair, Recommendation, RecommendedItem, StageScore
from serving.release.manifest import Release

#: The stages of the cascade, each with its name in a manifest.
CASCADE = {RETRIEVE: "retrieval", COARSE: "coarse", FINE: "fine"}
#: Features of an item that the page shows beside its id, and the letters of each.
_FEATURES, _LETTERS = 4, 40
#: Pairs that the page lists of all items together.
_PAIRS = 12


@dataclass(frozen=True)
class StageLine:
    """A stage of the cascade: its model, how many items it scored, how many of them it passed on."""

    title: str
    model: str
    scored: int
    passed: int
    ms: float | None


@dataclass(frozen=True)
class ItemLine:
    """An item, listed or not.

    Attributes:
      name: its id.
      features: what the catalogue says of it, short.
      stages: what each stage of the answer said of it; None where it did not score the item.
      moved: places that the item climbed from the first stage that scored it to the list; None: it is not listed.
      item: as it is listed; None: it is not.
      fate: what became of an item that is not listed.
    """

    name: str
    features: str
    stages: tuple[StageScore | None, ...]
    moved: int | None = None
    item: RecommendedItem | None = None
    fate: str = ""

    @property
    def climb(self) -> str:
        """How far the item moved, as a mark."""
        return arrow(self.moved)


@dataclass(frozen=True)
class PairLine:
    """A pair of fields that the fine ranker attended to, in how many of the listed items, and how strongly there."""

    pair: AttentionPair
    items: int
    weight: float


@dataclass(frozen=True)
class AnswerView:
    """An answer, ready to be shown."""

    answer: Recommendation
    release: Release
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    stages: tuple[StageLine, ...]
    items: tuple[ItemLine, ...]
    leading: tuple[tuple[str, tuple[ItemLine, ...]], ...]
    pairs: tuple[PairLine, ...]
    flags: tuple[tuple[str, str], ...]
    journeys: Figure | None
    times: Figure | None

    @property
    def total_ms(self) -> float | None:
        """Milliseconds of the whole request."""
        return self.answer.stage_ms.get("total")


def answer_view(
    answer: Recommendation, release: Release, labels: Sequence[str], features: Mapping[Any, Mapping[str, Any]]
) -> AnswerView:
    """Returns what the page shows of an answer.

    Args:
      answer: to a request with `explain`.
      release: that it is of.
      labels: that name the release.
      features: by item, what the catalogue says of it.
    """
    names = tuple(name for name in CASCADE if name in (answer.scored or {}))
    items = tuple(_listed(item, names, features) for item in answer.items)
    # Where nothing reorders what the fine ranker said, its ranks are the list's.
    last = [] if answer.explored is None and FINE in names else ["List"]
    journey = [
        (line.name, [*(stage and stage.rank for stage in line.stages), *([n] if last else [])])
        for n, line in enumerate(items, 1)
    ]
    order = {name: place for place, name in enumerate(STAGES)}
    spent = sorted(answer.stage_ms.items(), key=lambda each: order.get(each[0], len(order)))
    return AnswerView(
        answer=answer,
        release=release,
        labels=tuple(labels),
        columns=tuple(stage_title(name) for name in names),
        stages=_stage_lines(answer, release, names),
        items=items,
        leading=_leading(answer, names, features),
        pairs=_pairs(answer.items),
        flags=tuple((flag.value, flag_words(flag)) for flag in answer.flags),
        journeys=journeys([*(SHORT[name] for name in names), *last], journey) if len(names) > 1 else None,
        times=times(spent),
    )


def arrow(moved: int | None) -> str:
    """Returns a number of places as a mark: `▲ 3` for up, `▼ 2` for down, `=`."""
    if moved is None:
        return ""
    return "=" if not moved else f"{'▲' if moved > 0 else '▼'} {fmt.count(abs(moved))}"


def _listed(item: RecommendedItem, names: Sequence[str], features: Mapping[Any, Mapping[str, Any]]) -> ItemLine:
    stages = tuple((item.stages or {}).get(name) for name in names)
    first = next((stage for stage in stages if stage is not None), None)
    moved = first.rank - item.position - 1 if first is not None and len(names) > 1 else None
    return ItemLine(_name(item.item_id), _said(features.get(item.item_id, {})), stages, moved, item)


def _stage_lines(answer: Recommendation, release: Release, names: Sequence[str]) -> tuple[StageLine, ...]:
    scored = [(answer.scored or {})[name] for name in names]
    passed = [*scored, len(answer.items)][1:]  # none where every stage failed
    models = [release.model(release.cascade_models.get(CASCADE[name], "")) for name in names]
    return tuple(
        StageLine(
            stage_title(name),
            "" if model is None else f"{model.name} {model.version}",
            count,
            left,
            answer.stage_ms.get(name),
        )
        for name, model, count, left in zip(names, models, scored, passed, strict=True)
    )


def _leading(
    answer: Recommendation, names: Sequence[str], features: Mapping[Any, Mapping[str, Any]]
) -> tuple[tuple[str, tuple[ItemLine, ...]], ...]:
    """Of each stage the best items, with what became of them."""
    found = []
    places = {item.item_id: item.position + 1 for item in answer.items}
    for name in names:
        best = sorted((each for each in answer.leading or [] if name in each.stages), key=lambda e: e.stages[name].rank)
        lines = []
        for each in best[: max(len(answer.items), 1)]:
            last = max(number for number, stage in enumerate(names) if stage in each.stages)
            place = places.get(each.item_id)
            fate = f"place {place}" if place else f"dropped by {stage_title(names[last]).lower()}"
            stages = tuple(each.stages.get(stage) for stage in names)
            lines.append(ItemLine(_name(each.item_id), _said(features.get(each.item_id, {})), stages, fate=fate))
        found.append((stage_title(name), tuple(lines)))
    return tuple(found)


def _pairs(items: Sequence[RecommendedItem]) -> tuple[PairLine, ...]:
    """The pairs that are strongest in most items; weights are averaged over the items that name a pair alone."""
    counts: Counter[tuple[str, str, int, int]] = Counter()
    sums: dict[tuple[str, str, int, int], float] = {}
    some: dict[tuple[str, str, int, int], AttentionPair] = {}
    for item in items:
        for pair in item.attention or ():
            key = (pair.field, pair.attends_to, pair.layer, pair.head)
            counts[key] += 1
            sums[key] = sums.get(key, 0.0) + pair.weight
            some[key] = pair
    ordered = sorted(counts, key=lambda key: (-counts[key], -sums[key] / counts[key], key))
    return tuple(PairLine(some[key], counts[key], sums[key] / counts[key]) for key in ordered[:_PAIRS])


def _name(item_id: str | int | None) -> str:
    return "no id" if item_id is None else str(item_id)


def _said(features: Mapping[str, Any]) -> str:
    """A few features of an item: `shoes · 59.9 · red running shoe`."""
    said = []
    for name, value in features.items():
        if name == "item_id" or value is None or value == []:
            continue
        if isinstance(value, list):
            text = " ".join(str(part) for part in value)
        else:
            text = f"{name} {fmt.limit(value)}" if isinstance(value, int | float) else str(value)
        said.append(fmt.shortened(text, _LETTERS))
    return " · ".join(said[:_FEATURES])
