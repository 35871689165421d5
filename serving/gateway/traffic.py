"""Experiments of the gateway: which release a request is answered by, which list is drawn, and what is logged of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.replay.policies.greedy import TopPolicy
from features.errors import ClickmillError, InputError
from features.spec import FeatureSpec
from serving.experiments.assignment import Assignment, Experiments
from serving.experiments.config import ExperimentsConfig
from serving.experiments.exploration.config import Exploration
from serving.experiments.exploration.explorer import Explorer, explorer
from serving.experiments.exposure import Exposure
from serving.experiments.exposure_log import ExposureLog
from serving.gateway.config import GatewayConfig
from serving.gateway.schema import RecommendRequest

#: What orders a list that a failure made: no policy's propensities are its own.
DEGRADED = "degraded"
#: The fine ranker's own order.
GREEDY = TopPolicy().policy
_NOBODY = Assignment({}, None, None, False)


@dataclass(frozen=True)
class Drawn:
    """The order of a list.

    Attributes:
      places: [k] of the items among what was ranked, the first slot first.
      policy: what chose it.
      propensities, conditionals: [k] of each item in its slot; None: not known, for a stage failed.
      explored: whether anything but the ranker's own order could have come of it.
    """

    places: np.ndarray
    policy: str
    propensities: np.ndarray | None = None
    conditionals: np.ndarray | None = None
    explored: bool = False


class Traffic:
    """Assigns requests and logs what was shown. Belongs to one event loop; the log writes in a thread of its own.

    Args:
      config: where experiments and the log are.

    Raises:
      SpecError: if the file of the experiments cannot be used.
    """

    def __init__(self, config: GatewayConfig):
        experiments = ExperimentsConfig() if config.experiments is None else ExperimentsConfig.load(config.experiments)
        self._experiments = Experiments(experiments)
        self._config = config
        self._seeds = np.random.SeedSequence(config.seed)
        self._log: ExposureLog | None = None
        self._spec: FeatureSpec | None = None
        #: What variants name: labels or ids of releases that are asked for all the time.
        self.releases = {v.release for layer in experiments.layers for v in layer.variants if v.release is not None}
        self._explorers: dict[Exploration, Explorer] = {}

    def assign(self, request: RecommendRequest) -> Assignment:
        """Returns what experiments decide about a request.

        Raises:
          InputError: if it forces a variant that it may not, or that there is none of.
        """
        if request.experiment and not self._config.allow_forced:
            raise InputError("`experiment`: this gateway lets no request force a variant (`allow_forced`).")
        if not self._experiments.config.layers and not request.experiment:
            return _NOBODY
        return self._experiments.assign(request.user, request.experiment)

    def explorer_of(self, exploration: Exploration) -> Explorer:
        """Returns what draws a variant's lists."""
        if exploration not in self._explorers:
            self._explorers[exploration] = explorer(exploration)
        return self._explorers[exploration]

    def generator(self) -> np.random.Generator:
        """Returns chance for one request: threads share none."""
        return np.random.default_rng(self._seeds.spawn(1)[0])

    def log(self, spec: FeatureSpec, exposure: Exposure) -> bool:
        """Logs a list that was shown; returns whether it will be in the log. Nothing is raised: an answer stands."""
        if self._config.exposure_log is None:
            return True
        try:
            if self._log is None:
                self._log = ExposureLog(self._config.exposure_log, spec)
            elif spec is not self._spec:
                self._log.use(spec)  # of another release, whose features may be others
            self._spec = spec
            return self._log.write(exposure)
        except (ClickmillError, OSError) as error:
            logging.getLogger(__name__).error("An exposure is not logged: %s", error)
            return False

    def close(self) -> None:
        """Publishes what is not in the log yet. Raises `RunError` if that cannot be."""
        if self._log is not None:
            self._log.close()
            self._log = None


def draw(
    items: np.ndarray,
    logits: np.ndarray,
    k: int,
    policy: Explorer,
    chance: np.random.Generator,
    deviations: np.ndarray | None = None,
) -> Drawn:
    """Draws a list of what the fine ranker scored. Items whose logit is no number cannot be drawn, and are left out.

    Args:
      items: [n] rows of the catalogue: of equal logits the earlier comes first.
      logits: [n].
      k: slots.
      policy: what draws.
      chance: what is random of it.
      deviations: [n, M] what the draws of the last layer add to the logits, where the policy needs them.
    """
    usable = np.isfinite(logits)
    if deviations is not None:
        usable &= np.isfinite(deviations).all(axis=1)
    places = np.flatnonzero(usable)
    places = places[np.argsort(items[places], kind="stable")]
    if not len(places):
        return Drawn(places, DEGRADED)
    choice = policy.choose(logits[places], k, chance, None if deviations is None else deviations[places])
    return Drawn(places[choice.order], choice.policy, choice.propensities, choice.conditionals, explored=True)


def exposure_of(
    request: RecommendRequest,
    assignment: Assignment,
    drawn: Drawn,
    item_ids: Sequence[str | int],
    *,
    request_id: str,
    release: str,
    timestamp: int,
    context: Mapping[str, Any],
) -> Exposure:
    """Returns what is logged of an answer.

    Args:
      request: that was answered.
      assignment: of the request.
      drawn: the list's order.
      item_ids: the list.
      request_id, release: of the answer.
      timestamp: of the answer, UTC milliseconds.
      context: features of the request.
    """
    return Exposure(
        request_id=request_id,
        timestamp=timestamp,
        user=request.user,
        items=item_ids,
        release=release,
        policy=drawn.policy,
        propensities=None if drawn.propensities is None else drawn.propensities.tolist(),
        conditionals=None if drawn.conditionals is None else drawn.conditionals.tolist(),
        variants=assignment.variants,
        forced=assignment.forced,
        context=context,
    )
