"""Two releases replayed on logs of a simulated marketplace whose truth is known: does the interval hold it?

Two cascades of a run on simulated logs (`--run`), one with each of two fine rankers, serve lists of three slots by
Plackett-Luce over what their stages leave, with the temperature `--temperature`. The logger is the simulator's own
policy over the same candidates, `--logger` times as hot as it is, so that it shows now and then whatever the releases
like. A world draws anew who comes, what the logger shows and what is clicked: `--users` users, with replacement, of
the requests that both cascades scored once. In each, `replay` compares the releases on the log, and the simulator,
which knows all chances of clicks, says what each would have earned from those users in truth, of which the world's
are a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.records import Sweep

OPTIONS = {
    "run": (Path("."), "folder of a project that ran `clickmill run` on simulated logs"),
    "candidate": ("simulated_autoint", "fine ranker of the candidate"),
    "baseline": ("simulated_autoint_short", "fine ranker of the baseline"),
    "worlds": (200, "logs"),
    "requests": (1500, "of the test split that are scored"),
    "users": (3000, "who come in a world"),
    "temperature": (0.5, "of both releases' policies"),
    "logger": (2.0, "times the temperature of the simulator's policy"),
}
RETRIEVE, COARSE, SLOTS = 200, 20, 3
POLICIES = ("candidate", "baseline")
ESTIMATORS = ("snips", "ips", "rips", "snrips")
PIECE = 10


@dataclass(frozen=True)
class Pool:
    """Requests with their candidates, padded to the widest.

    Attributes:
      user: [R] who asks.
      items: [R, C] places of items, -1 where there is none.
      logger: [R, C] log rates; -inf where there is none.
      logits: policy → [R, C], NaN of an item that its cascade leaves out.
      attraction: [R, C] chances of a click on what is looked at.
      examination: [L].
    """

    user: np.ndarray
    items: np.ndarray
    logger: np.ndarray
    logits: dict[str, np.ndarray]
    attraction: np.ndarray
    examination: np.ndarray


def run(options) -> dict:
    """Scores the requests once, and replays world after world; finished worlds are kept."""
    pool, sweep = scored(options), Sweep("replay_cascade")
    settings = {name: getattr(options, name) for name in OPTIONS if name not in ("run", "worlds")}
    values = true_values(pool, options.temperature)
    for first in range(0, options.worlds, PIECE):
        for seed in range(first, min(first + PIECE, options.worlds)):
            wanted = {**settings, "seed": seed}
            if sweep.find(wanted) is None:
                sweep.add(wanted, {**wanted, **replayed(pool, options, seed)})
        print("worlds", min(first + PIECE, options.worlds), flush=True)
    worlds = [sweep.find({**settings, "seed": seed}) for seed in range(options.worlds)]
    return {"settings": settings, "requests": len(pool.user), **judge(pool, values, worlds)}


def figures(record: dict) -> list[tuple[str, str]]:
    """Coverage by estimator, and verdicts."""
    covers = ", ".join(f"{name} {100 * share:.1f}" for name, share in record["covers"].items())
    outcomes = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in record["outcomes"].items())
    settings, truth = record["settings"], record["truth"]
    return [
        (
            f"replay of two releases ({settings['candidate']}, {settings['baseline']}) in {record['worlds']} worlds, "
            f"intervals at 95 % that hold the true difference of {truth['difference']:+.5f} clicks an impression",
            f"{covers} %",
        ),
        (
            "their verdicts by SNIPS, the true one being "
            + ("better" if truth["difference"] > 0 else "worse")
            + f" by {100 * truth['difference'] / truth['baseline']:+.1f} %",
            f"{outcomes}; effective sample size {record['effective']:.0f} of {record['users']:.0f} users",
        ),
    ]


def scored(options) -> Pool:
    """The pool, from the folder of the benchmark where it was made before."""
    wanted = f"{options.candidate}-{options.baseline}-{options.requests}-{RETRIEVE}-{COARSE}"
    path = options.work / f"{wanted}.npz"
    if not path.exists():
        options.work.mkdir(parents=True, exist_ok=True)
        np.savez(path, **_scored(options))
    found = dict(np.load(path))
    logits = {name: found.pop(name) for name in POLICIES}
    return Pool(logits=logits, **found)


def _scored(options) -> dict[str, np.ndarray]:
    """Scores requests of the test split by both cascades."""
    from benchmarks.replay.marketplace import Marketplace
    from serving.offline.cascade_scoring import sample_requests
    from serving.offline.replay.log_files import find_raw_logs

    logs = find_raw_logs(options.run / "runs" / "simulated", "test")
    market = Marketplace(options.run / "data" / "simulated")
    by_policy, ids = {}, None
    for name in POLICIES:
        cascade = _cascade(options.run / "serving_models", getattr(options, name))
        sampled = sample_requests(logs.examples_dir, logs.behaviors_dir, logs.split, cascade, options.requests)
        rows = [table.slice(at, 1) for table in sampled for at in range(len(table))]
        ids = pa.chunked_array([row["request_id"].chunk(0) for row in rows])
        by_policy[name] = [_candidates(cascade, row) for row in rows]
        print(name, "scored", len(rows), flush=True)
    request = market.rows(ids)
    items = [np.union1d(*(by_policy[name][at][0] for name in POLICIES)) for at in range(len(request))]
    width = max(map(len, items))
    item_ids = cascade.catalogue.item_ids
    found = {name: np.full((len(request), width), np.nan) for name in POLICIES}
    found["items"] = np.full((len(request), width), -1)
    for at, listed in enumerate(items):
        found["items"][at, : len(listed)] = market.places(item_ids.take(pa.array(listed)))
        for name in POLICIES:
            passed, logits = by_policy[name][at]
            found[name][at, np.searchsorted(listed, passed)] = logits
    there = found["items"] >= 0
    flat = np.repeat(request, there.sum(axis=1)), found["items"][there]
    found["logger"], found["attraction"] = np.full(there.shape, -np.inf), np.zeros(there.shape)
    found["logger"][there], found["attraction"][there] = market.logger_scores(*flat), market.attraction(*flat)
    return found | {"user": market.user(request), "examination": market.examination[:SLOTS]}


def _cascade(root: Path, ranker: str):
    """The cascade of the latest release with another fine ranker of it, and fewer candidates."""
    from evaluation.cascade.config import CascadeConfig
    from serving.cascade import Cascade
    from serving.release.cascade_options import cascade_options, model_path
    from serving.release.registry import Releases

    releases = Releases(str(root))
    release = releases.find("latest")
    options = cascade_options(releases, release)
    return Cascade.load(
        options["two_tower"],
        model_path(releases, release, ranker),
        options["items"],
        coarse=options["coarse"],
        config=CascadeConfig(retrieve=RETRIEVE, coarse=COARSE, top_k=SLOTS),
    )


def _candidates(cascade, row: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the catalogue that a cascade leaves to its fine ranker, rising, and that one's logits."""
    from serving.cascade import best_items
    from serving.offline.replay.scorers import CascadeScorer

    passed, _ = cascade.retrieve(row, RETRIEVE)
    passed = np.sort(best_items(cascade.coarse_scores(row, passed), passed, COARSE))
    return passed, CascadeScorer(cascade)(row).logits


def slates(pool: Pool, name: str, request: np.ndarray, shown: np.ndarray):
    """What was shown of requests, as a policy of a release sees it: `shown` [R, L] are columns of the pool."""
    from evaluation.replay.policies.slates import LoggedSlates

    logits = pool.logits[name][request]
    there = ~np.isnan(logits)
    place = np.where(there, np.cumsum(there, axis=1) - 1, -1)
    count, length = shown.shape
    return LoggedSlates(
        offsets=np.append(0, np.cumsum(there.sum(axis=1))),
        logits=logits[there],
        row_offsets=np.arange(count + 1) * length,
        place=np.take_along_axis(place, shown, axis=1).ravel(),
        slot=np.tile(np.arange(length), count),
    )


def true_values(pool: Pool, temperature: float) -> dict[str, np.ndarray]:
    """Policy → [R] clicks that a list of each request of the pool gets in expectation."""
    from evaluation.replay.policies.registry import make_policy

    policy, found = make_policy(f"plackett_luce@{temperature:g}"), {}
    whole = np.arange(len(pool.user))
    for name in POLICIES:
        total = np.zeros(len(whole))
        for column in range(pool.items.shape[1]):
            of = slates(pool, name, whole, np.full((len(whole), 1), column))
            there = np.isin(np.arange(len(of.place)), np.flatnonzero(of.place >= 0))
            looked = policy.placements(of, SLOTS) @ pool.examination
            total += np.where(there, looked * pool.attraction[:, column], 0.0)
        found[name] = total
    return found


def replayed(pool: Pool, options, seed: int) -> dict:
    """One world: its log, and what `replay` says of it."""
    from evaluation.replay.log_table import LogColumns
    from evaluation.replay.policies.registry import make_policy
    from evaluation.replay.replay import replay

    rng = np.random.default_rng((5, seed))
    asked = [np.flatnonzero(pool.user == user) for user in np.unique(pool.user)]
    came = [asked[each] for each in rng.integers(0, len(asked), options.users)]
    request = np.concatenate(came)
    user = np.repeat(np.arange(options.users), [len(each) for each in came])
    shown, propensity = _logged(rng, pool.logger[request] / options.logger)
    chance = pool.examination * np.take_along_axis(pool.attraction[request], shown, axis=1)
    policy = make_policy(f"plackett_luce@{options.temperature:g}")
    columns = {name: policy.conditionals(slates(pool, name, request, shown)) for name in POLICIES}
    table = pa.table(
        {
            "user_id": np.repeat(user, SLOTS),
            "request_id": np.repeat(np.arange(len(request)), SLOTS),
            "position": np.tile(np.arange(SLOTS), len(request)),
            "propensity": propensity.ravel(),
            "label": (rng.random(chance.shape) < chance).astype(float).ravel(),
            **columns,
        }
    )
    log = LogColumns(policies={name: name for name in POLICIES}, propensity_kind="conditional")
    report = replay(table, log, estimators=ESTIMATORS)
    ends = {
        each.estimator: [each.difference.low, each.difference.value, each.difference.high]
        for each in report.comparisons
    }
    return {
        "outcome": report.outcome,
        "ends": ends,
        "effective": min(each.value for each in report.diagnoses if each.name == "effective_sample"),
        "users": report.users,
        "failed": sorted({each.name for each in report.diagnoses if not each.passed}),
    }


def _logged(rng: np.random.Generator, log_rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws the first slots of Plackett-Luce lists of log rates [R, C]: columns and conditional propensities [R, L]."""
    noisy = log_rates + rng.gumbel(size=log_rates.shape)
    shown = np.argsort(-noisy, axis=1)[:, :SLOTS]
    rates = np.exp(log_rates - log_rates.max(axis=1, keepdims=True))
    chosen = np.take_along_axis(rates, shown, axis=1)
    left = rates.sum(axis=1, keepdims=True) - np.cumsum(chosen, axis=1) + chosen
    return shown, np.minimum(chosen / left, 1.0)


def judge(pool: Pool, values: dict[str, np.ndarray], worlds: list[dict]) -> dict:
    """How often intervals hold the truth, an impression, and what was said."""
    truth = {name: float(each.mean()) / SLOTS for name, each in values.items()}
    truth["difference"] = truth["candidate"] - truth["baseline"]
    lists = {"ips", "snips"}
    covers = {}
    for name in worlds[0]["ends"]:
        wanted = truth["difference"] * (1 if name in lists else SLOTS)
        covers[name] = float(np.mean([world["ends"][name][0] <= wanted <= world["ends"][name][2] for world in worlds]))
    outcomes = [world["outcome"] for world in worlds]
    failed = [name for world in worlds for name in world["failed"]]
    return {
        "worlds": len(worlds),
        "truth": truth,
        "covers": covers,
        "mean": {name: float(np.mean([world["ends"][name][1] for world in worlds])) for name in worlds[0]["ends"]},
        "outcomes": {name: outcomes.count(name) for name in sorted(set(outcomes))},
        "failed": {name: failed.count(name) for name in sorted(set(failed))},
        "effective": float(np.mean([world["effective"] for world in worlds])),
        "users": float(np.mean([world["users"] for world in worlds])),
    }
