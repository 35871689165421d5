"""What the gateway takes and answers, as pydantic models: they check every body and make the OpenAPI page."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictInt, StrictStr

from features.config import Strict
from features.log_contract import MAX_TIMESTAMP, MIN_TIMESTAMP

_INT64 = 2**63
#: Items of one list, and candidates of one request, at most.
MAX_ITEMS = 1000
MAX_CANDIDATES = 10_000
MAX_HISTORY = 10_000
MAX_EVENTS = 1000

#: Who asks, and what is listed, as the logs name them: a string and an integer are two different ids.
Id = Annotated[StrictStr, Field(max_length=1000)] | Annotated[StrictInt, Field(ge=-_INT64, lt=_INT64)]
Timestamp = Annotated[
    StrictInt,
    Field(ge=MIN_TIMESTAMP, le=MAX_TIMESTAMP, description="UTC milliseconds since 1970, as in the log contract."),
]


class Flag(str, Enum):
    """What an answer was made without, or how it differs from what was asked for; several may hold.

    Attributes:
      UNKNOWN_USER: the request names no user, or neither profile nor bucket table know the one that it names.
      NO_PROFILE: the profile store could not be read in time; the request's own features and history alone were used.
      NO_TABLE: the bucket table could not be read in time, or is of another version: the short history alone was used.
      RETRIEVAL_FAILED: the retrieval failed or was late.
      POPULAR_ITEMS: the candidates were the release's popular items instead of retrieved ones.
      NOTHING_RETRIEVED: the retrieval answered, but with no item of the catalogue.
      COARSE_FAILED: the coarse ranker failed or was late: the fine ranker got the first candidates as they came.
      FINE_FAILED: the fine ranker failed or was late: the list has the coarse order, or the order of the candidates.
      NAN_SCORES: a stage gave scores that are no numbers; such items stand behind all others of that stage.
      FEWER_THAN_K: the list is shorter than `k`, for there were no more candidates.
      EXPLANATION_FAILED: the list was to be explained, and the fine ranker's attention is missing.
      VARIANT_UNAVAILABLE: the release of the user's variant cannot be asked, or its ranker cannot do what the variant
        explores by: the list is that of a request without a variant, and counts for no experiment.
      DEADLINE: a stage was cut off, or left out, because the whole request's deadline came.
      BEHAVIORS_OFF: behaviours are not taken in, for the release has no store that they could go to.
    """

    UNKNOWN_USER = "unknown_user"
    NO_PROFILE = "no_profile"
    NO_TABLE = "no_table"
    RETRIEVAL_FAILED = "retrieval_failed"
    POPULAR_ITEMS = "popular_items"
    NOTHING_RETRIEVED = "nothing_retrieved"
    COARSE_FAILED = "coarse_failed"
    FINE_FAILED = "fine_failed"
    NAN_SCORES = "nan_scores"
    FEWER_THAN_K = "fewer_than_k"
    EXPLANATION_FAILED = "explanation_failed"
    VARIANT_UNAVAILABLE = "variant_unavailable"
    DEADLINE = "deadline"
    BEHAVIORS_OFF = "behaviors_off"


class RecommendRequest(Strict):
    """Asks for a list of items for one user.

    Attributes:
      user, context: the request features are those of the user's profile, and over them those of `context`.
    """

    user: Id | None = Field(None, description="The user's id; without one the request is an anonymous visitor's.")
    context: dict[str, Any] = Field(
        {}, description="Features of the request (of the user and of the context); they replace those of the profile."
    )
    k: StrictInt = Field(10, ge=1, le=MAX_ITEMS, description="How many items to list.")
    timestamp: Timestamp | None = Field(
        None, description="When the list is asked for, UTC milliseconds since 1970; the gateway's clock by default."
    )
    history: list[dict[str, Any]] | None = Field(
        None,
        max_length=MAX_HISTORY,
        description="The user's last behaviours, oldest first, with the history features and `timestamp` (UTC "
        "milliseconds); by default those of the profile store.",
    )
    experiment: dict[str, str] = Field({}, description="Variants by layer that a tester asks for.")
    release: str | None = Field(None, description="Id or label of a release to ask instead of the one that is served.")
    explain: StrictBool = Field(
        False, description="Say what each stage gave the items, and where the fine ranker looked."
    )
    request_id: Annotated[StrictStr, Field(min_length=1, max_length=200)] | None = Field(
        None, description="The caller's name of the request, for logs; made by the gateway by default."
    )


class RankRequest(RecommendRequest):
    """Asks for the order of a caller's own candidates for one user; the fine ranker alone ranks them."""

    candidates: list[dict[str, Any]] = Field(
        max_length=MAX_CANDIDATES,
        description="One object an item: `item_id`, and features. Those of an item of the catalogue may be left out.",
    )


class StageScore(Strict):
    """What one stage gave an item."""

    score: float | None = Field(description="The stage's own score; null where it is not a number.")
    rank: int = Field(description="From 1, among the items that the stage scored.")


class AttentionPair(Strict):
    """How much one field of the fine ranker attends to another, in one head of one layer (both from 0)."""

    field: str
    attends_to: str
    layer: int
    head: int
    weight: float = Field(description="In [0, 1]; the weights of a field add up to 1 in each head.")


class RecommendedItem(Strict):
    """One item of a list."""

    item_id: Id | None = Field(description="Null where a caller's own candidate has none.")
    position: int = Field(description="In the list, from 0.")
    index: int | None = Field(None, description="In the request's `candidates`, from 0; null for recommended items.")
    score: float | None = Field(None, description="Probability of the label; null where the fine ranker did not say.")
    logit: float | None = Field(None, description="The score before the sigmoid.")
    propensity: float | None = Field(
        None, description="Probability that this item was shown in this slot; null where nothing is explored."
    )
    stages: dict[str, StageScore] | None = Field(None, description="By stage; null unless asked for.")
    attention: list[AttentionPair] | None = Field(
        None, description="The strongest pairs of fields, strongest first; null unless asked for and available."
    )


class StagedItem(Strict):
    """An item that some stage saw, listed in the end or not."""

    item_id: Id
    stages: dict[str, StageScore] = Field(description="By stage; a stage that did not get the item is missing.")


class Recommendation(Strict):
    """A list of items, and how it came about."""

    request_id: str = Field(description="Of the request; given by the gateway where the caller gave none.")
    release: str = Field(description="Id of the release that every part of this answer is of.")
    variants: dict[str, str] = Field({}, description="By layer of the experiments, what the user was assigned.")
    explored: str | None = Field(None, description="Name of the policy that explored; null: the scores gave the order.")
    items: list[RecommendedItem] = Field(description="The best first.")
    scored: dict[str, int] | None = Field(
        None, description="By stage, how many items it scored; null unless an explanation was asked for."
    )
    leading: list[StagedItem] | None = Field(
        None,
        description="The best items of every stage, as many as are listed, whatever later stages did with them; null "
        "unless an explanation was asked for, and for a caller's own candidates.",
    )
    flags: list[Flag] = Field([], description="What the answer was made without.")
    stage_ms: dict[str, float] = Field({}, description="Milliseconds by stage; stages overlap: `lookup` runs beside.")


class BehaviorEvent(Strict):
    """Something that a user did."""

    user: Id = Field(description="Who.")
    timestamp: Timestamp = Field(description="When, UTC milliseconds since 1970.")
    item_id: Id = Field(description="With which item.")
    features: dict[str, Any] = Field(
        {}, description="Other history features of the event; those of the item are the catalogue's by default."
    )


class BehaviorsRequest(Strict):
    """Behaviours to take in, of one or of many users, in any order."""

    events: list[BehaviorEvent] = Field(min_length=1, max_length=MAX_EVENTS, description="What they did.")


class BehaviorsAnswer(Strict):
    """What became of the behaviours: the next request of their users sees them."""

    appended: int = Field(description="Events that are new; one that came before changes nothing.")
    users: int = Field(description="Users whose history changed.")
    release: str = Field(description="Id of the release whose stores hold them.")


def gateway_form(request: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON request of the cascade in process (`serving.requests.json_request`) as the gateway takes it.

    Args:
      request: its candidates are left out; what it does not say stays unsaid.

    Returns:
      `user`, the id; all other features as `context`; `timestamp` and `history`.
    """
    features = {**(request.get("user") or {}), **(request.get("context") or {})}
    form = {
        "user": features.pop("user_id", None),
        "context": features,
        "timestamp": request.get("timestamp"),
        "history": request.get("history"),
    }
    return {name: value for name, value in form.items() if value is not None}
