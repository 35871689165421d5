"""What users do in the simulated marketplace: when they come, what they want, what they click.

Only one term of the utility depends on earlier clicks (the long-term one), and it depends on the user's own. So all
else is computed for all requests at once, and the clicks in rounds: round k holds the k-th request of every user.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.datasets.simulator.catalogue import (
    DAY_MS,
    DAYPARTS,
    DEVICES,
    GROUP_WEIGHTS,
    TERMS,
    Effects,
    Items,
    Population,
)

RECENT = 50
"""Behaviours that the long-term term does not look at, and that switch it off for their niches."""

#: Relative traffic of the 24 hours of a day.
HOURLY_TRAFFIC = np.array([3, 2, 1, 1, 1, 2, 3, 5, 6, 6, 6, 6, 7, 7, 6, 6, 6, 7, 8, 10, 11, 11, 9, 6], float)


@dataclass(frozen=True)
class Requests:
    """All requests, sorted by (user, time). Each [num_requests]: user; timestamp (ms since the log's start, strictly
    increasing within a user); order, its number among the user's; num_slots; session, the cluster the user is after
    now; device."""

    user: np.ndarray
    timestamp: np.ndarray
    order: np.ndarray
    num_slots: np.ndarray
    session: np.ndarray
    device: np.ndarray

    @property
    def day(self) -> np.ndarray:
        return self.timestamp // DAY_MS

    @property
    def hour(self) -> np.ndarray:
        return self.timestamp // 3_600_000 % 24

    def __len__(self) -> int:
        return len(self.user)


def draw_requests(
    rng: np.random.Generator,
    users: Population,
    impressions: int,
    days: int,
    slots: tuple[int, int],
    cap: int,
    drift: float,
) -> Requests:
    """Draws who comes when with how many slots. The slots add up to `impressions` exactly; nobody exceeds `cap`
    requests (what is cut goes to the others)."""
    num_slots = _draw_slots(rng, impressions, *slots)
    n = len(num_slots)
    count = rng.multinomial(n, users.activity)
    for _ in range(20):
        excess = int(np.maximum(count - cap, 0).sum())
        if not excess:
            break
        count = np.minimum(count, cap)
        free = np.where(count < cap, users.activity, 0.0)
        count = count + rng.multinomial(excess, free / free.sum())
    user = np.repeat(np.arange(len(users)), count)

    # Visits: a request opens one with probability 1/3, else follows the one before within a minute or so.
    opens = rng.random(n) < 1 / 3
    opens[np.flatnonzero(np.diff(user, prepend=-1))] = True
    visit = np.cumsum(opens) - 1
    hour = rng.choice(24, visit[-1] + 1, p=HOURLY_TRAFFIC / HOURLY_TRAFFIC.sum())
    start = rng.integers(0, days, len(hour)) * DAY_MS + hour * 3_600_000 + rng.integers(0, 3_600_000, len(hour))
    gap = np.where(opens, 0, rng.exponential(45_000, n).astype(np.int64) + 1_000)
    elapsed = np.cumsum(gap)
    timestamp = start[visit] + elapsed - elapsed[opens][visit]
    timestamp = np.minimum(timestamp, days * DAY_MS - 10_000 - rng.integers(0, 60_000, n))

    sort = np.lexsort((timestamp, user))
    timestamp = timestamp[sort]
    first = np.searchsorted(user, user)
    order = np.arange(n) - first
    timestamp = _strictly_increasing(timestamp, user, order, days)

    changes = (rng.random(n) < drift) | (order == 0)
    interests = users.interests[user[changes]]
    drawn_from = np.argmax(rng.random(interests.shape) * interests, axis=1)
    anywhere = rng.integers(0, interests.shape[1], len(drawn_from))
    focus = np.where(rng.random(len(drawn_from)) < 0.5, drawn_from, anywhere)
    own_device = rng.random(n) < 0.9
    return Requests(
        user=user,
        timestamp=timestamp,
        order=order,
        num_slots=num_slots,
        session=focus[np.cumsum(changes) - 1],
        device=np.where(own_device, users.device[user], rng.integers(0, len(DEVICES), n)),
    )


def policy_affinity(users: Population, requests: Requests, rows: slice) -> np.ndarray:
    """What the logging policy believes about the interests of requests `rows`: [rows, clusters], noisy."""
    user = requests.user[rows]
    affinity = 3.0 * users.interests[user] + users.policy_noise[user]
    affinity[np.arange(len(user)), requests.session[rows]] += 2.0
    return affinity


def examination(num_positions: int, exponent: float) -> np.ndarray:
    """P(the slot is looked at), [num_positions]: (1 + position)^-exponent."""
    return (1.0 + np.arange(num_positions)) ** -exponent


def static_utility(
    items: Items, users: Population, effects: Effects, requests: Requests, request: np.ndarray, item: np.ndarray
) -> np.ndarray:
    """The utility without intercept and long-term term, [N], of flat impressions (`request`, `item`: [N])."""
    user = requests.user[request]
    category = items.category[item]
    cluster = items.cluster[item]
    age_days = requests.day[request] - items.release_day[item]
    daypart = requests.hour[request] // (24 // DAYPARTS)
    terms = {
        "quality": items.quality[item],
        "age_category": effects.age_category[users.age[user], category],
        "city_brand": effects.city_brand[users.city[user], items.brand[item]],
        "price": items.log_price_z[item],
        "newness": np.exp(-age_days / 7.0),
        "daypart_category": effects.daypart_category[daypart, category],
        "interest": users.interests[user, cluster],
        "session": cluster == requests.session[request],
    }
    group = users.group[user]
    return sum(GROUP_WEIGHTS[group, TERMS.index(name)] * value for name, value in terms.items())


def solve_intercept(utility: np.ndarray, examined: np.ndarray, click_rate: float) -> float:
    """The intercept at which mean(examined · sigmoid(intercept + utility)) is `click_rate`, by bisection."""
    # A fixed stride over the rows is as good as all of them and keeps this cheap.
    step = max(1, len(utility) // 100_000)
    utility, examined = utility[::step], examined[::step]
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.mean(examined * sigmoid(middle + utility)) < click_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


@dataclass(frozen=True)
class Responses:
    """Flat, one a impression: attraction = sigmoid(utility) float64, long_term bool (the term was on), clicked bool;
    behaviors_before [num_requests], the user's clicks before each request."""

    attraction: np.ndarray
    long_term: np.ndarray
    clicked: np.ndarray
    behaviors_before: np.ndarray


def draw_clicks(
    rng: np.random.Generator,
    users: Population,
    requests: Requests,
    niche: np.ndarray,
    utility: np.ndarray,
    examined: np.ndarray,
    last_click: np.ndarray,
    num_clicks: np.ndarray,
) -> Responses:
    """Lets users click, each in the order of their requests.

    The long-term term is on for a candidate if its niche is one of the user's own, the user has clicked in it, and no
    click in it is among the user's last `RECENT`: an interest that lies dormant, which only older behaviours show.

    Args:
      rng: the generator.
      users, requests: who and when; the flat impressions follow the order of `requests`.
      niche, utility, examined: flat [N]: the candidate's niche, its utility without the long-term term, P(examined).
      last_click: [users · niches] int32, the number of a user's last click in a niche before the log, or -1.
      num_clicks: [users] int64, clicks before the log.
    """
    offsets = np.concatenate([[0], np.cumsum(requests.num_slots)])
    width = int(requests.num_slots.max())
    by_round = np.argsort(requests.order, kind="stable")
    slot = np.arange(width)
    valid = slot < requests.num_slots[by_round, None]
    flat = np.where(valid, offsets[by_round, None] + slot, 0)
    user = requests.user[by_round]
    niche_of = niche[flat].astype(np.int32)
    own = users.niches[user[:, None], niche_of] & valid
    weight = GROUP_WEIGHTS[users.group, TERMS.index("long_term")][user]
    draw = rng.random(len(utility))
    # click <=> draw < examined·sigmoid(utility): compared without and with the term, so a round has only look-ups.
    clicks_without = (draw < examined * sigmoid(utility))[flat] & valid
    with_term = utility[flat] + weight[:, None]
    clicks_with = (draw[flat] < examined[flat] * sigmoid(with_term)) & valid
    term_on = np.zeros(flat.shape, bool)
    clicked = np.zeros(flat.shape, bool)
    before = np.zeros(len(user), np.int64)

    num_niches = users.niches.shape[1]
    last_click, num_clicks = last_click.copy(), num_clicks.copy()
    bounds = np.concatenate([[0], np.cumsum(np.bincount(requests.order))])
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        rows = slice(start, end)
        who = user[rows]
        n = num_clicks[who]
        key = who[:, None] * num_niches + niche_of[rows]
        last = last_click[key]
        on = own[rows] & (last >= 0) & (last < (n - RECENT)[:, None])
        hit = np.where(on, clicks_with[rows], clicks_without[rows])
        term_on[rows], clicked[rows], before[rows] = on, hit, n
        number = n[:, None] + np.cumsum(hit, axis=1) - 1
        # Clicks in one niche within a request: the last is assigned last and stays.
        last_click[key[hit]] = number[hit]
        num_clicks[who] = number[:, -1] + 1

    long_term = np.zeros(len(utility), bool)
    long_term[flat[valid]] = term_on[valid]
    flat_clicked = np.zeros(len(utility), bool)
    flat_clicked[flat[valid]] = clicked[valid]
    flat_weight = np.repeat(GROUP_WEIGHTS[users.group, TERMS.index("long_term")][requests.user], requests.num_slots)
    behaviors_before = np.empty(len(requests), np.int64)
    behaviors_before[by_round] = before
    return Responses(sigmoid(utility + flat_weight * long_term), long_term, flat_clicked, behaviors_before)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _draw_slots(rng: np.random.Generator, impressions: int, low: int, high: int) -> np.ndarray:
    n = int(np.clip(round(2 * impressions / (low + high)), -(-impressions // high), impressions // low))
    slots = rng.integers(low, high + 1, n)
    while (gap := impressions - int(slots.sum())) != 0:
        able = np.flatnonzero(slots < high if gap > 0 else slots > low)
        slots[rng.permutation(able)[: abs(gap)]] += np.sign(gap)
    return slots


def _strictly_increasing(timestamp: np.ndarray, user: np.ndarray, order: np.ndarray, days: int) -> np.ndarray:
    """Moves ties within a user by a millisecond each, so that 'strictly before' is the order of requests."""
    span = 2 * days * DAY_MS
    return np.maximum.accumulate(user * span + timestamp - order + len(order)) - user * span + order - len(order)
