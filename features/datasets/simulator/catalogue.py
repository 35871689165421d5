"""The simulated marketplace's standing facts: items, users and the weights of the click model.

The item space is a tree: categories hold clusters (the interests users have), clusters hold niches (logged as
`subcategory`). Everything is drawn once from a generator; `features/datasets/simulator/behavior.py` then lets users
act in it. The equations stand in `docs/reference/simulator.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.datasets.simulator.config import CATEGORIES, ItemTree

DAY_MS = 86_400_000

NUM_BRANDS = 40
CITIES = (
    "amsterdam", "athens", "berlin", "dublin", "helsinki", "lisbon", "madrid", "oslo", "paris", "prague", "rome",
    "vienna",
)  # fmt: skip
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
DEVICES = ("android", "ios", "desktop", "tablet")
DAYPARTS = 4
MAX_INTERESTS = 5

TERMS = (
    "quality",
    "age_category",
    "city_brand",
    "price",
    "newness",
    "daypart_category",
    "interest",
    "session",
    "long_term",
)

GROUPS = ("bargain_hunter", "brand_loyal", "trend_follower", "connoisseur")

#: Weight of each term of the utility in each user group, [groups, terms]: the same features, weighed differently.
GROUP_WEIGHTS = np.array(
    [
        [0.4, 0.6, 0.3, -1.0, 0.0, 0.3, 0.4, 0.9, 3.0],
        [0.4, 0.5, 1.2, 0.4, 0.0, 0.3, 0.4, 0.9, 3.0],
        [0.2, 1.1, 0.4, 0.0, 1.0, 0.3, 0.4, 1.1, 3.0],
        [0.9, 0.8, 0.3, 0.6, -0.5, 0.3, 0.4, 0.6, 3.0],
    ]
)


@dataclass(frozen=True)
class Items:
    """All items, sorted by (cluster, release day), so that the released items of a cluster are a prefix of it.

    Attributes (each [num_items]): item_id int64; popularity, Zipf and summing to 1; policy_score, what the logging
    policy believes; quality, brand, niche, log_price_z; price; release_day, negative before the log starts.
    tree: what the niches belong to.
    title: word lists as (words [num_words_in_all] of str, offsets [num_items + 1]).
    """

    tree: ItemTree
    item_id: np.ndarray
    popularity: np.ndarray
    policy_score: np.ndarray
    quality: np.ndarray
    brand: np.ndarray
    niche: np.ndarray
    price: np.ndarray
    log_price_z: np.ndarray
    release_day: np.ndarray
    title_words: np.ndarray
    title_offsets: np.ndarray

    @cached_property
    def cluster(self) -> np.ndarray:
        return self.tree.cluster_of(self.niche)

    @cached_property
    def category(self) -> np.ndarray:
        return self.tree.category_of(self.niche)

    def __len__(self) -> int:
        return len(self.item_id)


@dataclass(frozen=True)
class Population:
    """All users. age, city, group, device, [num_users] codes; activity [num_users], a share of all requests;
    interests [num_users, clusters] bool, 1 to 5 each; niches [num_users, niches] bool, inside the interests;
    policy_noise [num_users, clusters], the policy's error about a user."""

    age: np.ndarray
    city: np.ndarray
    group: np.ndarray
    device: np.ndarray
    activity: np.ndarray
    interests: np.ndarray
    niches: np.ndarray
    policy_noise: np.ndarray

    def __len__(self) -> int:
        return len(self.age)


@dataclass(frozen=True)
class Effects:
    """The planted tables of interactions: age_category [ages, categories], city_brand [cities, brands] (rank 3),
    daypart_category [dayparts, categories]; each of zero mean and unit variance."""

    age_category: np.ndarray
    city_brand: np.ndarray
    daypart_category: np.ndarray


def draw_items(
    rng: np.random.Generator,
    tree: ItemTree,
    num_items: int,
    days: int,
    popularity_exponent: float,
    history_days: int = 0,
) -> Items:
    """Draws the catalogue. Each niche has an item from before the log starts, and before the users' history does."""
    num_niches = tree.num_niches
    niche = np.concatenate([np.arange(num_niches), rng.integers(0, num_niches, num_items - num_niches)])
    # Two thirds are there from the start; the rest appear over the log.
    release_day = np.where(
        rng.random(num_items) < 0.67,
        -rng.integers(1, 91 + history_days, num_items),
        rng.integers(0, days, num_items),
    )
    release_day[:num_niches] = -history_days - rng.integers(1, 91, num_niches)
    order = np.lexsort((release_day, tree.cluster_of(niche)))
    niche, release_day = niche[order], release_day[order]

    rank = rng.permutation(num_items) + 1
    popularity = rank**-popularity_exponent
    popularity /= popularity.sum()
    log_popularity = np.log(popularity)
    quality = _standardize(0.4 * _standardize(log_popularity) + 0.9 * rng.standard_normal(num_items))

    category = tree.category_of(niche)
    log_price = 2.5 + 0.4 * rng.standard_normal(len(CATEGORIES))[category] + 0.6 * rng.standard_normal(num_items)
    brand = rng.choice(NUM_BRANDS, num_items, p=_zipf(NUM_BRANDS, 0.7))
    words, offsets = _draw_titles(rng, niche, tree.cluster_of(niche), brand)
    return Items(
        tree=tree,
        item_id=10_000_000 + rng.permutation(num_items).astype(np.int64),
        popularity=popularity,
        policy_score=log_popularity + 0.3 * rng.standard_normal(num_items),
        quality=quality,
        brand=brand,
        niche=niche,
        price=np.round(np.exp(log_price), 2),
        log_price_z=_standardize(log_price),
        release_day=release_day,
        title_words=words,
        title_offsets=offsets,
    )


def draw_users(rng: np.random.Generator, tree: ItemTree, num_users: int, activity_exponent: float) -> Population:
    """Draws the users. Activity is Zipf-Mandelbrot, (rank + 1/4)^-exponent with ranks from 1, the ranks shuffled."""
    activity = (rng.permutation(num_users) + 1.25) ** -activity_exponent
    group = rng.integers(0, len(GROUPS), num_users)
    # The device hints at the group and no more: 55 % own the group's device.
    device = np.where(rng.random(num_users) < 0.4, group, rng.integers(0, len(DEVICES), num_users))
    count = rng.choice(MAX_INTERESTS, num_users, p=[0.1, 0.15, 0.2, 0.25, 0.3]) + 1
    interests = rng.random((num_users, tree.num_clusters)).argsort(axis=1).argsort(axis=1) < count[:, None]
    inside = np.repeat(interests, tree.niches_per_cluster, axis=1)
    niches = inside & (rng.random(inside.shape) < 0.7)
    return Population(
        age=rng.choice(len(AGE_BANDS), num_users, p=[0.18, 0.26, 0.21, 0.16, 0.11, 0.08]),
        city=rng.choice(len(CITIES), num_users, p=_zipf(len(CITIES), 0.5)),
        group=group,
        device=device,
        activity=activity / activity.sum(),
        interests=interests,
        niches=niches,
        policy_noise=0.4 * rng.standard_normal((num_users, tree.num_clusters)),
    )


def draw_effects(rng: np.random.Generator) -> Effects:
    """Draws the interaction tables of the utility."""
    city_brand = rng.standard_normal((len(CITIES), 3)) @ rng.standard_normal((3, NUM_BRANDS))
    return Effects(
        age_category=_standardize(rng.standard_normal((len(AGE_BANDS), len(CATEGORIES)))),
        city_brand=_standardize(city_brand),
        daypart_category=_standardize(rng.standard_normal((DAYPARTS, len(CATEGORIES)))),
    )


def _draw_titles(
    rng: np.random.Generator, niche: np.ndarray, cluster: np.ndarray, brand: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draws for each item a brand word, one or two words of its niche, one of its cluster and some that say nothing."""
    n = len(niche)
    columns = [
        np.char.add("brand", brand.astype(str)),
        _word("niche", niche, rng.integers(0, 3, n)),
        _word("cluster", cluster, rng.integers(0, 6, n)),
        _word("niche", niche, rng.integers(3, 5, n)),
        np.char.add("word", rng.choice(400, n, p=_zipf(400, 1.0)).astype(str)),
        np.char.add("word", rng.choice(400, n, p=_zipf(400, 1.0)).astype(str)),
    ]
    words = np.stack(columns, axis=1)
    length = rng.integers(3, len(columns) + 1, n)
    offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
    return words[np.arange(len(columns)) < length[:, None]], offsets


def _word(kind: str, of: np.ndarray, number: np.ndarray) -> np.ndarray:
    return np.char.add(np.char.add(kind, of.astype(str)), np.char.add("x", number.astype(str)))


def _zipf(n: int, exponent: float) -> np.ndarray:
    weights = np.arange(1, n + 1) ** -exponent
    return weights / weights.sum()


def _standardize(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()
