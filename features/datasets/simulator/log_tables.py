"""The simulated world as tables of the log contract (Arrow), with the flaws that real logs have."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.datasets.simulator.behavior import Requests, sigmoid
from features.datasets.simulator.catalogue import (
    AGE_BANDS,
    CITIES,
    DAY_MS,
    DEVICES,
    GROUP_WEIGHTS,
    GROUPS,
    TERMS,
    Effects,
    Items,
    Population,
)
from features.datasets.simulator.config import CATEGORIES, ItemTree

BAD_ROW_KINDS = ("null_user", "negative_timestamp", "propensity_above_one", "duplicate_impression", "unknown_item")
UNKNOWN_ITEM = 99_999_999


def numbered(prefix: str, numbers: np.ndarray, digits: int = 0) -> pa.Array:
    """Returns `prefix` + number, the number filled up with zeros to `digits`."""
    text = pc.utf8_lpad(pa.array(np.asarray(numbers)).cast(pa.string()), width=digits, padding="0")
    return pc.binary_join_element_wise(prefix, text, "")


def named(names: tuple[str, ...], codes: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Returns the names of codes, null where `missing`."""
    return pa.array(names).take(pa.array(np.asarray(codes, np.int64), mask=missing))


def niche_names(niche: np.ndarray, tree: ItemTree) -> pa.Array:
    """Returns the `subcategory` of niches: category, cluster and niche, as `books_3_07`."""
    category = named(CATEGORIES, tree.category_of(niche))
    cluster = numbered("", tree.cluster_of(niche))
    return pc.binary_join_element_wise(category, cluster, numbered("", niche % tree.niches_per_cluster, 2), "_")


def items_table(items: Items, start: int, missing: np.ndarray) -> pa.Table:
    """The items, sorted by `item_id`; `price` is null where `missing`."""
    words = pa.array(items.title_words)
    table = pa.table(
        {
            "item_id": items.item_id,
            "category": named(CATEGORIES, items.category),
            "subcategory": niche_names(items.niche, items.tree),
            "brand": numbered("brand_", items.brand, 2),
            "price": pa.array(items.price, mask=missing),
            "title": pa.ListArray.from_arrays(pa.array(items.title_offsets, pa.int32()), words),
            "release": start + items.release_day.astype(np.int64) * DAY_MS,
        }
    )
    return table.take(np.argsort(items.item_id))


def users_table(users: Population, missing: np.ndarray) -> pa.Table:
    """The users; `city` is null where `missing`."""
    return pa.table(
        {
            "user_id": user_ids(users),
            "age_band": named(AGE_BANDS, users.age),
            "city": named(CITIES, users.city, missing),
        }
    )


def user_ids(users: Population) -> pa.Array:
    return numbered("u", np.arange(len(users)), 7)


def request_keys(requests: Requests, start: int) -> dict[str, pa.Array]:
    """Columns of a request, [num_requests]; ids follow the time over all users."""
    number = np.empty(len(requests), np.int64)
    number[np.argsort(requests.timestamp, kind="stable")] = np.arange(len(requests))
    timestamp = start + requests.timestamp
    return {
        "request_id": numbered("r", number, 9),
        "timestamp": pa.array(timestamp),
        "hour": pa.array(timestamp // 3_600_000 % 24),
        # 1 January 1970 was a Thursday; Monday is 0.
        "weekday": pa.array((timestamp // DAY_MS + 3) % 7),
        "device": named(DEVICES, requests.device),
    }


def draw_events(
    rng: np.random.Generator,
    shown: np.ndarray,
    item: np.ndarray,
    items: Items,
    window_ms: int,
    shares: dict[str, float],
) -> dict[str, np.ndarray]:
    """Turns clicked impressions into click and order events.

    A click follows its impression within a minute or so; a share `slow` hours later, a share `late` after the
    attribution window. An order follows a click with probability sigmoid(-1.5 + 0.5 quality - 0.4 price), hours later.
    A share `duplicate` of the events is logged again, half of these within two seconds, half unchanged.

    Args:
      rng: the generator.
      shown: [clicks], when each clicked impression was shown.
      item: [clicks], its item (index).
      items: the catalogue.
      window_ms: the attribution window.
      shares: of `slow`, `late` and `duplicate` events.

    Returns:
      `impression` (index in `shown`), `timestamp`, `is_order`, `is_copy`, `is_late`, each [events], sorted by time.
    """
    n = len(shown)
    delay = np.exp(rng.normal(np.log(8_000), 1.0, n)).astype(np.int64) + 500
    kind = rng.random(n)
    slow, late = kind < shares["slow"], kind > 1 - shares["late"]
    delay[slow] = rng.exponential(2 * 3_600_000, int(slow.sum())).astype(np.int64) % (window_ms - 1) + 1
    delay[late] = window_ms + 1 + rng.exponential(12 * 3_600_000, int(late.sum())).astype(np.int64)
    ordered = np.flatnonzero(rng.random(n) < sigmoid(-1.5 + 0.5 * items.quality[item] - 0.4 * items.log_price_z[item]))
    order_delay = delay[ordered] + 30_000 + rng.exponential(6 * 3_600_000, len(ordered)).astype(np.int64)

    impression = np.concatenate([np.arange(n), ordered])
    timestamp = shown[impression] + np.concatenate([delay, order_delay])
    is_order = np.arange(len(impression)) >= n
    copied = np.flatnonzero(rng.random(len(impression)) < shares["duplicate"])
    again = np.where(rng.random(len(copied)) < 0.5, 0, rng.integers(1, 2_000, len(copied)))
    event = {
        "impression": np.concatenate([impression, impression[copied]]),
        "timestamp": np.concatenate([timestamp, timestamp[copied] + again]),
        "is_order": np.concatenate([is_order, is_order[copied]]),
        "is_copy": np.arange(len(impression) + len(copied)) >= len(impression),
    }
    event["is_late"] = event["timestamp"] - shown[event["impression"]] > window_ms
    by_time = np.argsort(event["timestamp"], kind="stable")
    return {name: values[by_time] for name, values in event.items()}


def bad_rows(rng: np.random.Generator, impressions: pa.Table, count: int) -> tuple[pa.Table, dict[str, int]]:
    """Returns `count` bad impressions, their kinds in turn, and how many of each kind.

    All but the duplicates are copies of good rows under a request id of their own, so no good request loses a row.
    """
    kinds = np.arange(count) % len(BAD_ROW_KINDS)
    rows = impressions.take(rng.choice(len(impressions), count, replace=False)).combine_chunks()
    names = [BAD_ROW_KINDS[kind] for kind in kinds]

    def put(column: str, kind: str, value: float | None) -> None:
        nonlocal rows
        chosen = pa.array(kinds == BAD_ROW_KINDS.index(kind))
        field = rows.schema.field(column)
        values = pc.if_else(chosen, pa.scalar(value, field.type), rows[column])
        rows = rows.set_column(rows.schema.get_field_index(column), field, values)

    own_id = pc.binary_join_element_wise("bad", pa.array(names, pa.string()), numbered("", np.arange(count)), "-")
    keep_id = pa.array(kinds == BAD_ROW_KINDS.index("duplicate_impression"))
    rows = rows.set_column(0, "request_id", pc.if_else(keep_id, rows["request_id"], own_id))
    put("user_id", "null_user", None)
    put("timestamp", "negative_timestamp", -1)
    put("propensity", "propensity_above_one", 1.5)
    put("item_id", "unknown_item", UNKNOWN_ITEM)
    return rows, {kind: int((kinds == i).sum()) for i, kind in enumerate(BAD_ROW_KINDS)}


def truth_of_kept(bad: pa.Table, schema: pa.Schema) -> pa.Table:
    """Truth of the bad impressions that ingestion keeps, those of an unknown item: nobody ever clicks them."""
    kept = bad.filter(pc.equal(bad["item_id"], UNKNOWN_ITEM))
    columns = {name: kept[name] for name in ("request_id", "item_id")}
    zeros = {field.name: pa.array(np.zeros(len(kept)), pa.float64()).cast(field.type) for field in schema}
    return pa.table({**zeros, **columns}, schema=schema)


def behaviors_table(user: np.ndarray, item_id: np.ndarray, timestamp: np.ndarray) -> pa.Table:
    """The behaviours, sorted by time: [behaviours] users (numbers), items and times (UTC ms)."""
    by_time = np.argsort(timestamp, kind="stable")
    return pa.table(
        {
            "user_id": numbered("u", user[by_time], 7),
            "item_id": item_id[by_time],
            "timestamp": timestamp[by_time],
        }
    )


def planted_users(users: Population, requests: Requests, clicks: np.ndarray) -> pa.Table:
    """What a log does not say of users: group, interests (clusters), niches, their requests and `clicks` [users]."""
    return pa.table(
        {
            "user_id": user_ids(users),
            "group": named(GROUPS, users.group),
            "interests": _true_columns(users.interests),
            "niches": _true_columns(users.niches),
            "requests": np.bincount(requests.user, minlength=len(users)),
            "clicks": clicks,
        }
    )


def planted_items(items: Items) -> pa.Table:
    """What a log does not say of items: cluster, niche, popularity, quality; sorted by `item_id`."""
    table = pa.table(
        {
            "item_id": items.item_id,
            "cluster": items.cluster,
            "niche": items.niche,
            "popularity": items.popularity,
            "quality": items.quality,
        }
    )
    return table.take(np.argsort(items.item_id))


def planted_effects(effects: Effects) -> dict:
    """The weights and interaction tables of the utility with the names of their rows and columns."""
    return {
        "terms": TERMS,
        "group_weights": dict(zip(GROUPS, GROUP_WEIGHTS.tolist(), strict=True)),
        "ages": AGE_BANDS,
        "cities": CITIES,
        "categories": CATEGORIES,
        "age_category": effects.age_category.tolist(),
        "city_brand": effects.city_brand.tolist(),
        "daypart_category": effects.daypart_category.tolist(),
    }


def _true_columns(mask: np.ndarray) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.nonzero(mask)[1]))
