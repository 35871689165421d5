"""Which of the nodes that are ready starts first: the one that the longest rest of the run waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Seconds of a kind of component before a run has measured them: those of the shipped profile on two cores. All others
#: take one.
SECONDS = {
    "LogIngest": 5.0,
    "LogStatistics": 7.0,
    "UserProfiles": 4.0,
    "Vocabulary": 3.0,
    "FeatureEncoder": 3.0,
    "Trainer": 50.0,
    "TeacherLists": 45.0,
    "CoarseExamples": 16.0,
    "RankingEvaluator": 4.0,
    "RetrievalEvaluator": 8.0,
    "CascadeEvaluator": 28.0,
    "ServingValidator": 8.0,
    "BehaviorTables": 8.0,
}


def by_longest_rest(upstream: Mapping[str, Sequence[str]], measured: Mapping[str, float]) -> list[str]:
    """Returns all nodes, first the one whose longest chain of nodes to the end of the run takes longest.

    Where two take as long, the one that is earlier in the pipeline comes first. What nodes compute does not depend on
    the order: it only costs time where it is chosen badly.

    Args:
      upstream: what each node waits for; every node after those that it waits for.
      measured: seconds of components, of the last run; `SECONDS` of those that are not in it.
    """
    rest = dict.fromkeys(upstream, 0.0)
    for node in reversed(list(upstream)):
        rest[node] += measured.get(node, SECONDS.get(node.partition(".")[0], 1.0))
        for needed in upstream[node]:
            rest[needed] = max(rest[needed], rest[node])
    return sorted(upstream, key=lambda node: -rest[node])
