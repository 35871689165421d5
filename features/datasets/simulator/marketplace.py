"""A simulated marketplace whose truth is known: logs in the log contract's tables, true click probabilities apart.

`simulate` writes `impressions/`, `clicks/`, `items/`, `users/` and, if users have a past, `behaviors/` (Parquet shards,
what a pipeline reads), `truth/` (the click probability of every impression), `planted/` (users' interests and groups,
items' clusters, the effects) and `summary.json`.
The generative model, with its equations, stands in `docs/reference/simulator.md`.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from features import storage
from features.arrow import write_parquet
from features.datasets.simulator import behavior
from features.datasets.simulator import log_tables as tables
from features.datasets.simulator.catalogue import Population, draw_effects, draw_items, draw_users
from features.datasets.simulator.config import SimulatorConfig
from features.datasets.simulator.past import draw_past
from features.datasets.simulator.policy import LoggingPolicy
from features.errors import OccupiedError
from features.storage import AnyPath

SUMMARY_FILE = "summary.json"
HOUR_MS = 3_600_000
_ROW_GROUP = 65_536
_POLICY_BATCH = 65_536


class SimulationSummary(BaseModel):
    """What was written, also as `summary.json`. Rows are rows on disk; `bad_rows` counts those planted, by kind, which
    `impression_rows` includes."""

    config: SimulatorConfig
    requests: int
    impression_rows: int
    bad_rows: dict[str, int]
    click_rows: int
    clicked_impressions: int
    orders: int
    late_clicks: int
    late_orders: int
    duplicate_click_rows: int
    items: int
    users: int
    active_users: int
    users_below_5_behaviors: int
    most_behaviors: int
    behaviors_before_the_log: int
    click_rate: float
    intercept: float
    long_term_share: float


def simulate(
    config: SimulatorConfig, out_dir: AnyPath, progress: Callable[[str, float], None] | None = None
) -> SimulationSummary:
    """Simulates a marketplace and writes its logs.

    Args:
      config: what to simulate.
      out_dir: a new or empty directory, or an earlier simulation, which is replaced.
      progress: called with (what is being done, share done in [0, 1]).

    Returns:
      The summary. It holds no clock time: two runs of one config write the same bytes.

    Raises:
      OccupiedError: if `out_dir` holds anything but an earlier simulation.
    """
    if storage.entries(out_dir) and not storage.is_file(storage.join(out_dir, SUMMARY_FILE)):
        raise OccupiedError(f"`out_dir` {out_dir} is not empty and holds no simulation: name another directory.")
    report = progress or (lambda what, share: None)
    with storage.publishing(out_dir, replace=True) as aside:
        summary = _simulate(config, aside, report)
        storage.write_text(storage.join(aside, SUMMARY_FILE), summary.model_dump_json(indent=2) + "\n")
    report("done", 1.0)
    return summary


def _simulate(config: SimulatorConfig, out: str, report: Callable[[str, float], None]) -> SimulationSummary:
    # A stream each, so that a change in one part leaves the draws of the others.
    streams = np.random.SeedSequence(config.seed).spawn(9)
    rng = {
        name: np.random.default_rng(stream)
        for name, stream in zip(
            ("items", "users", "effects", "requests", "policy", "clicks", "events", "flaws", "past"),
            streams,
            strict=True,
        )
    }
    report("items and users", 0.0)
    num_items, num_users = config.num_items or config.default_num_items, config.num_users or config.default_num_users
    items = draw_items(
        rng["items"], config.tree, num_items, config.days, config.popularity_exponent, config.history_days
    )
    users = draw_users(rng["users"], config.tree, num_users, config.activity_exponent)
    effects = draw_effects(rng["effects"])
    past = draw_past(rng["past"], users, items, config.history_days, config.history_median, config.interest_drift)
    requests = behavior.draw_requests(
        rng["requests"],
        users,
        config.impressions,
        config.days,
        (config.min_candidates, config.max_candidates),
        config.max_requests_per_user,
        config.session_drift,
    )

    report("candidates", 0.1)
    policy = LoggingPolicy(items, config.days, config.temperature, config.exploration)
    item, propensity = _fill(rng["policy"], policy, users, requests)

    report("clicks", 0.5)
    request = np.repeat(np.arange(len(requests)), requests.num_slots)
    position = np.arange(len(item)) - np.repeat(np.cumsum(requests.num_slots) - requests.num_slots, requests.num_slots)
    examined = behavior.examination(config.max_candidates, config.examination_exponent)[position]
    utility = behavior.static_utility(items, users, effects, requests, request, item)
    intercept = behavior.solve_intercept(utility, examined, config.click_rate)
    last_click = past.last_click_of_niches(items.niche, len(users), config.tree.num_niches)
    clicks_before = np.bincount(past.user, minlength=len(users))
    responses = behavior.draw_clicks(
        rng["clicks"], users, requests, items.niche[item], utility + intercept, examined, last_click, clicks_before
    )

    report("tables", 0.7)
    keys = tables.request_keys(requests, config.start)
    by_time = np.argsort(requests.timestamp[request], kind="stable")
    taken = pa.array(request[by_time])
    shown = {name: column.take(taken) for name, column in keys.items()}
    item_id = items.item_id[item]
    impressions = pa.table(
        {
            "request_id": shown.pop("request_id"),
            "timestamp": shown.pop("timestamp"),
            "user_id": tables.user_ids(users).take(pa.array(requests.user[request[by_time]])),
            "item_id": item_id[by_time],
            "position": position[by_time].astype(np.int32),
            "propensity": propensity[by_time],
            **shown,
        }
    )
    truth = pa.table(
        {
            "request_id": impressions["request_id"],
            "item_id": impressions["item_id"],
            "click_probability": (examined * responses.attraction)[by_time],
            "examination": examined[by_time],
            "attraction": responses.attraction[by_time],
            "long_term": responses.long_term[by_time],
            "behaviors_before": responses.behaviors_before[request][by_time],
        }
    )
    clicked = np.flatnonzero(responses.clicked)
    events = tables.draw_events(
        rng["events"],
        config.start + requests.timestamp[request[clicked]],
        item[clicked],
        items,
        int(config.attribution_window_hours * HOUR_MS),
        {"slow": config.slow_share, "late": config.late_share, "duplicate": config.duplicate_share},
    )
    event_row = clicked[events["impression"]]
    clicks = pa.table(
        {
            "request_id": keys["request_id"].take(pa.array(request[event_row])),
            "item_id": item_id[event_row],
            "timestamp": events["timestamp"],
            "label": pc.if_else(pa.array(events["is_order"]), "order", "click"),
        }
    )
    once, late = ~events["is_copy"], events["is_late"]
    event_user = requests.user[request[event_row]]
    behaviors = tables.behaviors_table(
        np.concatenate([past.user, event_user[once & ~events["is_order"]]]),
        items.item_id[np.concatenate([past.item, item[event_row[once & ~events["is_order"]]]])],
        np.concatenate([config.start + past.timestamp, events["timestamp"][once & ~events["is_order"]]]),
    )
    flawed, bad_counts = tables.bad_rows(rng["flaws"], impressions, config.bad_rows)

    report("writing", 0.8)
    no_price = rng["flaws"].random(len(items)) < config.missing_share
    no_city = rng["flaws"].random(len(users)) < config.missing_share
    clicks_of = clicks_before + np.bincount(requests.user[request[clicked]], minlength=len(users))
    _write(impressions, out, "impressions", config.shards, extra=flawed)
    _write(clicks, out, "clicks", config.shards)
    _write(truth, out, "truth", config.shards, extra=tables.truth_of_kept(flawed, truth.schema))
    if config.history_days:
        _write(behaviors, out, "behaviors", config.shards)
    _write(tables.items_table(items, config.start, no_price), out, "items", 1)
    _write(tables.users_table(users, no_city), out, "users", 1)
    planted = storage.join(out, "planted")
    write_parquet(tables.planted_users(users, requests, clicks_of), storage.join(planted, "users.parquet"))
    write_parquet(tables.planted_items(items), storage.join(planted, "items.parquet"))
    effects_json = json.dumps(tables.planted_effects(effects), indent=1) + "\n"
    storage.write_text(storage.join(planted, "effects.json"), effects_json)

    active = np.bincount(requests.user, minlength=len(users)) > 0
    return SimulationSummary(
        config=config,
        requests=len(requests),
        impression_rows=len(impressions) + len(flawed),
        bad_rows=bad_counts,
        click_rows=len(clicks),
        clicked_impressions=len(clicked),
        orders=int((events["is_order"] & once).sum()),
        late_clicks=int((late & once & ~events["is_order"]).sum()),
        late_orders=int((late & once & events["is_order"]).sum()),
        duplicate_click_rows=int(events["is_copy"].sum()),
        items=len(items),
        users=len(users),
        active_users=int(active.sum()),
        users_below_5_behaviors=int((clicks_of[active] < 5).sum()),
        most_behaviors=int(clicks_of.max()),
        behaviors_before_the_log=len(past.user),
        click_rate=len(clicked) / len(impressions),
        intercept=intercept,
        long_term_share=float(responses.long_term.mean()),
    )


def _fill(
    rng: np.random.Generator, policy: LoggingPolicy, users: Population, requests: behavior.Requests
) -> tuple[np.ndarray, np.ndarray]:
    """Fills all requests, batch by batch; returns flat items and propensities, [N]."""
    items, propensities = [], []
    for start in range(0, len(requests), _POLICY_BATCH):
        rows = slice(start, start + _POLICY_BATCH)
        affinity = behavior.policy_affinity(users, requests, rows)
        item, propensity = policy.sample(rng, affinity, requests.day[rows], requests.num_slots[rows])
        items.append(item[item >= 0])
        propensities.append(propensity[item >= 0])
    return np.concatenate(items), np.concatenate(propensities)


def _write(table: pa.Table, out: str, name: str, shards: int, extra: pa.Table | None = None) -> None:
    """Writes `name/name-SSSSS-of-NNNNN.parquet`, rows in order; the rows of `extra` go to the shards in turn."""
    bounds = np.linspace(0, len(table), shards + 1).astype(np.int64)
    for shard in range(shards):
        part = table.slice(bounds[shard], bounds[shard + 1] - bounds[shard])
        if extra is not None and len(extra):
            turn = np.arange(shard, len(extra), shards)
            part = pa.concat_tables([part, extra.take(turn).cast(part.schema)])
        path = storage.join(out, name, f"{name}-{shard:05d}-of-{shards:05d}.parquet")
        write_parquet(part, path, _ROW_GROUP)
