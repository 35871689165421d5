"""What to simulate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, model_validator
from typing_extensions import Self

from features.config import Strict

if TYPE_CHECKING:
    import numpy as np

CATEGORIES = (
    "audio", "beauty", "books", "camping", "fashion", "garden", "grocery", "kitchen", "office", "pets",
    "sports", "toys",
)  # fmt: skip


@dataclass(frozen=True)
class ItemTree:
    """Categories hold `clusters_per_category` clusters each, clusters `niches_per_cluster` niches; all are numbered
    through, parent by parent."""

    clusters_per_category: int = 2
    niches_per_cluster: int = 20

    @property
    def num_clusters(self) -> int:
        return len(CATEGORIES) * self.clusters_per_category

    @property
    def num_niches(self) -> int:
        return self.num_clusters * self.niches_per_cluster

    def cluster_of(self, niche: np.ndarray) -> np.ndarray:
        return niche // self.niches_per_cluster

    def category_of(self, niche: np.ndarray) -> np.ndarray:
        return self.cluster_of(niche) // self.clusters_per_category


class SimulatorConfig(Strict):
    """What to simulate. The same config gives the same bytes."""

    impressions: int = Field(200_000, ge=1_000, description="Good impression rows; planted bad rows come on top.")
    seed: int = Field(0, ge=0, description="The same seed gives the same logs.")
    num_items: int | None = Field(
        None,
        ge=1,
        description="At least one a niche. Default: impressions / 40, at least 1,000 and two a niche: an item is seen "
        "40 times on average.",
    )
    num_users: int | None = Field(
        None, ge=10, description="Default: impressions / 50: most users then stay below 5 behaviours."
    )
    clusters_per_category: int = Field(
        ItemTree.clusters_per_category, ge=1, description="Clusters, which are interests, in each of 12 categories."
    )
    niches_per_cluster: int = Field(
        ItemTree.niches_per_cluster, ge=1, description="Fewer: an interest is known by fewer clicks."
    )
    days: int = Field(14, ge=1, description="Two weeks show each weekday twice and leave room for a split by time.")
    start: int = Field(1_767_571_200_000, ge=0, description="UTC ms of the first midnight: Monday, 5 January 2026.")
    history_days: int = Field(
        0, ge=0, description="Users clicked on so many days before the log; a `behaviors` table then says what."
    )
    history_median: float = Field(
        60.0, gt=0, description="Clicks of a user before the log; with 60 half of the users have a long history."
    )
    interest_drift: float = Field(
        0.3, ge=0, le=1, description="Share of users who had other interests until a day before the log."
    )
    min_candidates: int = Field(5, ge=1, description="Slots of a request, at least.")
    max_candidates: int = Field(30, ge=1, description="Slots of a request, at most.")
    temperature: float = Field(
        1.5, gt=0, description="Of the logging policy: popularity keeps two thirds of its exponent."
    )
    exploration: float = Field(
        0.1, ge=0, le=1, description="Share of slots filled uniformly, so propensities stay > 0."
    )
    popularity_exponent: float = Field(1.0, ge=0, description="Zipf's law of item popularity.")
    activity_exponent: float = Field(1.0, ge=0, description="Zipf-Mandelbrot's law of user activity.")
    max_requests_per_user: int = Field(2_000, ge=1, description="No user is a robot: thousands of behaviours at most.")
    session_drift: float = Field(0.1, ge=0, le=1, description="P(the session interest moves before a request).")
    examination_exponent: float = Field(0.4, ge=0, description="P(examined) = (1 + position)^-exponent.")
    click_rate: float = Field(
        0.09, gt=0, lt=0.5, description="Solved for without the long-term term, which adds to it."
    )
    attribution_window_hours: float = Field(24, gt=0, description="Late clicks come after it.")
    slow_share: float = Field(0.03, ge=0, le=1, description="Clicks that arrive hours late, within the window.")
    late_share: float = Field(0.01, ge=0, le=1, description="Clicks that arrive after the window.")
    duplicate_share: float = Field(0.01, ge=0, le=1, description="Click events logged twice.")
    missing_share: float = Field(0.01, ge=0, le=1, description="Null cities of users, null prices of items.")
    bad_rows: int = Field(20, ge=0, description="Impressions that ingestion must refuse or drop, kinds in turn.")
    shards: int = Field(4, ge=1, description="Parquet files of impressions, clicks and truth.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_candidates > self.max_candidates:
            raise ValueError(
                "`min_candidates` must not exceed `max_candidates`. "
                f"Received: {self.min_candidates} > {self.max_candidates}."
            )
        users = self.num_users or self.default_num_users
        needed = 2 * self.impressions // (self.min_candidates + self.max_candidates)
        if users * self.max_requests_per_user < 2 * needed:
            raise ValueError(
                f"{users} users of at most {self.max_requests_per_user} requests cannot make {needed} requests: "
                "raise `num_users` or `max_requests_per_user`."
            )
        if (self.num_items or self.default_num_items) < self.tree.num_niches:
            raise ValueError(
                f"`num_items` must be at least {self.tree.num_niches}, one a niche. "
                f"Received: `num_items`={self.num_items}."
            )
        if 2 * self.max_candidates > (self.num_items or self.default_num_items) // 2:
            raise ValueError(f"`max_candidates`={self.max_candidates} is too many for the items: raise `num_items`.")
        if self.bad_rows > self.impressions // 10:
            raise ValueError(f"`bad_rows` must be a handful, at most impressions / 10. Received: {self.bad_rows}.")
        return self

    @property
    def tree(self) -> ItemTree:
        return ItemTree(self.clusters_per_category, self.niches_per_cluster)

    @property
    def default_num_items(self) -> int:
        return max(1_000, 2 * self.tree.num_niches, self.impressions // 40)

    @property
    def default_num_users(self) -> int:
        return max(50, self.impressions // 50)
