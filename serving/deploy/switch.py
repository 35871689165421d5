"""The steps in which a running TensorFlow Serving goes over from one set of versions and labels to another.

A reload that both loads a version and moves a label to it is refused whole: labels are checked against what is
available before anything is loaded (`ServerCore::UpdateModelVersionLabelMap`). So a switch is three reloads:

1. load: the old versions and the new ones, under the old labels; then wait until the new ones are AVAILABLE;
2. label: the same versions, under the new labels. One map replaces the other under a lock: no request sees half of it;
3. retire: the new versions alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.deploy.served import Served, ServedModel


@dataclass(frozen=True)
class Step:
    """One reload.

    Attributes:
      name: `load`, `label` or `retire`.
      served: what the server serves from then on.
      awaited: model → versions that must be available before the next step.
    """

    name: str
    served: Served
    awaited: Mapping[str, frozenset[int]] = field(default_factory=dict)


def switch_steps(before: Served, after: Served) -> list[Step]:
    """Returns the reloads that lead from one state to another; none where they are alike.

    At every moment each label of `before` names a version that is loaded, until it names that of `after`. A model that
    `after` lacks keeps its labels until it is retired; one that `before` lacks gets its labels with all others.

    Args:
      before: what the server serves.
      after: what it is to serve.
    """
    names = sorted({*before, *after})
    none = ServedModel(frozenset())
    old = {name: before.get(name, none) for name in names}
    new = {name: after.get(name, none) for name in names}
    both = {name: old[name].versions | new[name].versions for name in names}
    load = {name: ServedModel(both[name], old[name].labels) for name in names}
    label = {name: ServedModel(both[name], (new if name in after else old)[name].labels) for name in names}
    awaited = {name: model.versions for name, model in after.items()}
    steps = [Step("load", load, awaited), Step("label", label), Step("retire", dict(after))]
    found: list[Step] = []
    now: Served = before
    for step in steps:
        if dict(step.served) != dict(now):
            found.append(step)
            now = step.served
    return found
