"""The simulated marketplace of a run, drawn again: who would click what, and what its logging policy thinks of items.

`features.datasets.simulator` draws all of a marketplace by its seed; here the same draws are made, without the log.
What is needed of them is kept: the chance of a click on any item for any request of the log, and the logging policy's
scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from features.datasets.simulator import behavior
from features.datasets.simulator.catalogue import GROUP_WEIGHTS, TERMS, draw_effects, draw_items, draw_users
from features.datasets.simulator.log_tables import request_keys
from features.datasets.simulator.marketplace import SUMMARY_FILE, SimulationSummary
from features.datasets.simulator.past import draw_past


class Marketplace:
    """The users, items and requests of a simulation.

    Args:
      folder: that `simulate` wrote.
    """

    def __init__(self, folder: Path):
        summary = SimulationSummary.model_validate_json((folder / SUMMARY_FILE).read_text())
        config = summary.config
        # Streams as in `marketplace._simulate`: items, users, effects, requests and, last, the past.
        streams = [np.random.default_rng(each) for each in np.random.SeedSequence(config.seed).spawn(9)]
        self.items = draw_items(
            streams[0], config.tree, summary.items, config.days, config.popularity_exponent, config.history_days
        )
        self.users = draw_users(streams[1], config.tree, summary.users, config.activity_exponent)
        self._effects = draw_effects(streams[2])
        past = draw_past(
            streams[8], self.users, self.items, config.history_days, config.history_median, config.interest_drift
        )
        self._requests = behavior.draw_requests(
            streams[3],
            self.users,
            config.impressions,
            config.days,
            (config.min_candidates, config.max_candidates),
            config.max_requests_per_user,
            config.session_drift,
        )
        self._intercept, self._temperature = summary.intercept, config.temperature
        self.examination = behavior.examination(config.max_candidates, config.examination_exponent)
        self._niches = config.tree.num_niches
        self._last = past.last_click_of_niches(self.items.niche, len(self.users), self._niches)
        self._clicks = np.bincount(past.user, minlength=len(self.users))
        keys = request_keys(self._requests, config.start)["request_id"].to_pylist()
        self._row = {key: row for row, key in enumerate(keys)}
        self._item = {item: place for place, item in enumerate(self.items.item_id.tolist())}

    def rows(self, request_ids: pa.ChunkedArray) -> np.ndarray:
        """[R] places of requests of the log."""
        return np.array([self._row[key] for key in request_ids.to_pylist()])

    def places(self, item_ids: pa.Array) -> np.ndarray:
        """[n] places of items."""
        return np.array([self._item[item] for item in item_ids.to_pylist()])

    def user(self, row: np.ndarray) -> np.ndarray:
        """[R] the users of requests."""
        return self._requests.user[row]

    def attraction(self, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """[N] the chance that the user of a request clicks an item that is looked at, interests being as dormant as
        they were when the log began."""
        utility = behavior.static_utility(self.items, self.users, self._effects, self._requests, row, item)
        user, niche = self._requests.user[row], self.items.niche[item]
        last = self._last[user * self._niches + niche]
        dormant = self.users.niches[user, niche] & (last >= 0) & (last < self._clicks[user] - behavior.RECENT)
        weight = GROUP_WEIGHTS[self.users.group[user], TERMS.index("long_term")]
        return behavior.sigmoid(utility + self._intercept + weight * dormant)

    def logger_scores(self, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """[N] the logging policy's scores over its temperature: its propensities are their softmax."""
        found = np.empty(len(row))
        for request in np.unique(row):
            rows = row == request
            affinity = behavior.policy_affinity(self.users, self._requests, slice(request, request + 1))[0]
            found[rows] = self.items.policy_score[item[rows]] + affinity[self.items.cluster[item[rows]]]
        return found / self._temperature
