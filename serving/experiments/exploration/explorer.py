"""Explorers by the kind of their configuration."""

from __future__ import annotations

from serving.experiments.exploration.choice import Explorer
from serving.experiments.exploration.config import EpsilonGreedy, Exploration, PlackettLuce, Thompson
from serving.experiments.exploration.greedy import EpsilonExplorer, GreedyExplorer
from serving.experiments.exploration.plackett_luce import PlackettLuceExplorer
from serving.experiments.exploration.thompson import ThompsonExplorer


def explorer(exploration: Exploration | None) -> Explorer:
    """Returns the explorer of a configuration; None: the ranker's own order."""
    if isinstance(exploration, EpsilonGreedy):
        return EpsilonExplorer(exploration.epsilon, exploration.top)
    if isinstance(exploration, PlackettLuce):
        return PlackettLuceExplorer(exploration.temperature, exploration.top)
    if isinstance(exploration, Thompson):
        return ThompsonExplorer(exploration.scale)
    return GreedyExplorer()
