"""What the page knows beside an answer: the releases that there are, users of the stores, features of items."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from features.errors import ClickmillError
from serving.gateway.schema import Recommendation
from serving.release.manifest import LATEST
from serving.release.registry import Releases

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway
    from serving.gateway.releases.release_view import ReleaseView

#: Users and releases that are offered; others can be typed.
MOST_USERS, MOST_RELEASES = 100, 50
_INTEGER = re.compile(r"-?[0-9]{1,19}")


@dataclass(frozen=True)
class Around:
    """What stands around the answer.

    Attributes:
      release: id of the release that answers; None: none does yet.
      label: that the gateway follows.
      reasons: why the gateway is not ready; empty if it is.
      labels: label → id of a release.
      releases: ids, the newest first.
      users: some that the stores know.
      allow_releases: whether a request may name a release.
      most_letters: of a pasted request.
    """

    release: str | None
    label: str
    reasons: tuple[str, ...]
    labels: dict[str, str]
    releases: tuple[str, ...]
    users: tuple[str | int, ...]
    allow_releases: bool
    most_letters: int

    def labels_of(self, release: str) -> list[str]:
        """Returns the labels that name a release."""
        return sorted(label for label, named in self.labels.items() if named == release)


async def look_around(gateway: Gateway) -> Around:
    """Returns what the page offers now. What cannot be read is not offered."""
    labels, releases = await asyncio.to_thread(_registered, Releases(gateway.config.root))
    reasons = gateway.ready()
    release, users = None, ()
    if not reasons:
        async with gateway.hold() as view:
            release = view.id
            users = await asyncio.to_thread(_some_users, view)
    return Around(
        release=release,
        label=gateway.config.label,
        reasons=tuple(reasons),
        labels=labels,
        releases=releases,
        users=users,
        allow_releases=gateway.config.allow_releases,
        most_letters=gateway.config.max_body_bytes // 4,
    )


async def typed_user(gateway: Gateway, text: str) -> str | int:
    """Returns the id of a user as the stores have it: digits are an integer where they know that, and not the text."""
    if not _INTEGER.fullmatch(text) or abs(int(text)) >= 2**63 or gateway.ready():
        return text
    async with gateway.hold() as view:
        return await asyncio.to_thread(_as_known, view, text)


def features_of(view: ReleaseView, answer: Recommendation) -> dict[Any, dict[str, Any]]:
    """Returns what a release's catalogue says of the items that an answer names, by id."""
    if view.items is None or view.catalogue is None:
        return {}
    ids = {item.item_id for item in [*answer.items, *(answer.leading or [])]} - {None}
    rows = {item_id: view.catalogue.row_of(item_id) for item_id in ids}
    known = [item_id for item_id in ids if rows[item_id] >= 0]
    names = [each.name for each in view.spec.of_scope("candidate") if each.name in view.items.column_names]
    found = view.items.select(names).take(pa.array([rows[item_id] for item_id in known], pa.int64())).to_pylist()
    return dict(zip(known, found, strict=True))


def _registered(releases: Releases) -> tuple[dict[str, str], tuple[str, ...]]:
    """Labels and ids: names alone, for reading all manifests takes as long as there are releases."""
    try:
        labels = releases.labels()
    except ClickmillError:
        labels = {}
    # Ids sort by time.
    return labels, tuple(sorted(releases.ids(), reverse=True)[:MOST_RELEASES])


def _stores(view: ReleaseView) -> list[Any]:
    return [store for store in (view.profiles, view.tables) if store is not None]


def _some_users(view: ReleaseView) -> tuple[str | int, ...]:
    try:
        stores = _stores(view)
        return tuple(stores[0].first_users(MOST_USERS)) if stores else ()
    except ClickmillError:
        return ()


def _as_known(view: ReleaseView, text: str) -> str | int:
    stores = _stores(view)
    if not stores:
        of_log = {feature.name: feature.dtype for feature in view.spec.features}.get("user_id")
        return int(text) if of_log == "int64" else text
    try:
        if not any(store.get(text) for store in stores) and any(store.get(int(text)) for store in stores):
            return int(text)
    except ClickmillError:
        pass
    return text


def offered(around: Around) -> list[tuple[str, str]]:
    """Returns (value, text) of the releases that can be asked: labels first, then ids that no label names."""
    named = [(label, f"{label} · {named}") for label, named in sorted(around.labels.items())]
    if around.releases:
        named.insert(0, (LATEST, f"{LATEST} · {around.releases[0]}"))
    return named + [(each, each) for each in around.releases if each not in around.labels.values()]
