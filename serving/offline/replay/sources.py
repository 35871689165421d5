"""What a policy of a replay is made of: a release, a model, a column of the log, or the logger itself."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.cascade.config import CascadeConfig
from evaluation.replay.policies.list_policy import ListPolicy
from features import storage
from features.config import parse_model
from features.errors import InputError, RunError
from serving.offline.replay.scorers import CascadeScorer, RankerScorer, Scorer
from serving.release.cascade_options import cascade_options
from serving.release.contents import model_problems
from serving.release.registry import Releases

LOGGED, COLUMN, MODEL = "logged", "column", "model"


@dataclass(frozen=True)
class PolicySource:
    """Where a policy's probabilities come from.

    Attributes:
      text: as it was given.
      column: of the log that holds them; None: they are computed.
      policy: how a list is made of what a model scores; None: of a column.
      scorer: what scores; None: of a column.
    """

    text: str
    column: str | None = None
    policy: ListPolicy | None = None
    scorer: Scorer | None = None

    @property
    def described(self) -> str:
        """What it is, for who reads a report."""
        return self.text if self.policy is None else f"{self.text} by {self.policy.policy}"


def open_source(text: str, policy: ListPolicy, root: storage.AnyPath, propensity: str = "propensity") -> PolicySource:
    """Opens what a policy is made of.

    Args:
      text: `logged`, the logger itself; `column:NAME`, a column of propensities in the log; `model:FOLDER`, a ranker
        that orders anew what was shown; else the id of a release, a label or `latest`: its cascade.
      policy: how a list is made of what a model scores.
      root: the serving root of releases.
      propensity: the log's column of the logger's propensities.

    Raises:
      NotFoundError: if there is no such release or model.
      InputError: if the release is no cascade.
      RunError: if a released model's files are not those that were released.
    """
    kind, colon, rest = text.partition(":")
    if text == LOGGED:
        return PolicySource(text, column=propensity)
    if colon and kind == COLUMN:
        return PolicySource(text, column=rest)
    if colon and kind == MODEL:
        return PolicySource(text, policy=policy, scorer=RankerScorer(rest))
    return PolicySource(text, policy=policy, scorer=_cascade(root, text))


def reads_models(text: str) -> bool:
    """Whether a text stands for something that scores requests."""
    return text != LOGGED and not text.startswith(f"{COLUMN}:")


def check_catalogues(sources: dict[str, PolicySource], exclude: bool) -> list[object] | None:
    """Returns the items that all catalogues hold; None: no policy has one.

    Raises:
      InputError: for policies of different catalogues, unless requests with items that one lacks are left out.
    """
    held = {
        name: set(each.scorer.items.to_pylist())
        for name, each in sources.items()
        if each.scorer is not None and each.scorer.items is not None
    }
    if not held:
        return None
    shared = set.intersection(*held.values())
    if not exclude and any(items != shared for items in held.values()):
        sizes = ", ".join(f"`{name}` has {len(items):,} items" for name, items in held.items())
        raise InputError(
            f"the policies' catalogues differ: {sizes}, {len(shared):,} of them in both. Release both with one "
            "catalogue, or leave out the requests that showed an item which one lacks (`exclude`)."
        )
    return list(shared)


def _cascade(root: storage.AnyPath, name: str) -> CascadeScorer:
    from serving.cascade import Cascade

    releases = Releases(root)
    release = releases.find(name)
    options = cascade_options(releases, release)
    for model in release.cascade_models.values():
        problems = model_problems(releases, release.model(model))
        if problems:
            raise RunError(
                f"{release.id} is not whole: {problems[0]} Promote another release, or push the model again."
            )
    sizes = {"retrieve": options["retrieve"], "coarse": options["passed"], "top_k": options["top"]}
    config = parse_model(sizes, CascadeConfig, release.id)
    models = {stage: options[stage] for stage in ("two_tower", "ranker", "items", "coarse")}
    return CascadeScorer(Cascade.load(**models, config=config))  # type: ignore[arg-type]
