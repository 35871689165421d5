"""Explorers by the kind of their configuration."""

from __future__ import annotations

from evaluation.replay.policies.greedy import EpsilonPolicy, TopPolicy
from evaluation.replay.policies.plackett_luce import PlackettLucePolicy
from serving.experiments.exploration.choice import Explorer
from serving.experiments.exploration.config import EpsilonGreedy, Exploration, PlackettLuce, Thompson
from serving.experiments.exploration.thompson import ThompsonExplorer


def explorer(exploration: Exploration | None) -> Explorer:
    """Returns the explorer of a configuration; None: the ranker's own order."""
    if isinstance(exploration, EpsilonGreedy):
        return EpsilonPolicy(exploration.epsilon, exploration.top)
    if isinstance(exploration, PlackettLuce):
        return PlackettLucePolicy(exploration.temperature, exploration.top)
    if isinstance(exploration, Thompson):
        return ThompsonExplorer(exploration.scale)
    return TopPolicy()
