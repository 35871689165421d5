"""What the page says in words: flags, stages, what is wrong with a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from features.config import nearest
from features.errors import InputError
from serving.gateway.schema import Flag, RankRequest, RecommendRequest

#: Stages and other parts of `stage_ms`, in the order in which a request goes through them.
STAGES = {
    "lookup": "Waiting for the bucket table",
    "retrieve": "Retrieval",
    "coarse": "Coarse ranking",
    "fine": "Fine ranking",
    "explain": "Attention, for this page",
    "total": "The whole request",
}

FLAGS = {
    Flag.UNKNOWN_USER: "Nobody by this name is known: neither profile nor bucket table. The list is an anonymous visitor’s.",
    Flag.NO_PROFILE: "The profile store could not be read in time, or what it holds does not fit this release.",
    Flag.NO_TABLE: "The bucket table could not be read in time, or is another version’s: the short history alone counts.",
    Flag.RETRIEVAL_FAILED: "The retrieval failed or was late.",
    Flag.POPULAR_ITEMS: "The candidates are the release’s popular items instead of retrieved ones.",
    Flag.NOTHING_RETRIEVED: "The retrieval answered with no item of the catalogue.",
    Flag.COARSE_FAILED: "The coarse ranker failed or was late: the fine ranker got the first candidates as they came.",
    Flag.FINE_FAILED: "The fine ranker failed or was late: the list has the coarse order, and no probabilities.",
    Flag.NAN_SCORES: "A stage gave scores that are no numbers; such items stand behind all others.",
    Flag.FEWER_THAN_K: "The list is shorter than was asked for: there were no more candidates.",
    Flag.EXPLANATION_FAILED: "What the fine ranker attended to is missing: it failed, was late, or its export cannot say.",
    Flag.DEADLINE: "A stage was cut off or left out, because the whole request’s time was over.",
    Flag.BEHAVIORS_OFF: "Behaviours are not taken in: the release has no store that they could go to.",
}


def flag_words(flag: Flag) -> str:
    """Returns a flag as a sentence."""
    return FLAGS.get(flag, f"{flag.value.replace('_', ' ').capitalize()}.")


def stage_title(name: str) -> str:
    """Returns what a stage is called on the page."""
    return STAGES.get(name, name.replace("_", " ").capitalize())


def parse_request(values: Any) -> RecommendRequest | RankRequest:
    """Checks a parsed JSON request; one with `candidates` ranks those.

    Raises:
      InputError: in plain words, a sentence for each thing that is wrong: where, the value, what is expected.
    """
    if not isinstance(values, dict):
        raise InputError(
            f"A request is an object in braces, as {{\"user\": \"u7\", \"k\": 10}}. Received: {_kind(values)}."
        )
    model = RankRequest if "candidates" in values else RecommendRequest
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError("\n".join(_problems(error, model.model_fields))) from error


def _problems(error: ValidationError, known: Mapping[str, Any]) -> list[str]:
    """A sentence for each key that is wrong; of a key that may be of several types, one for all of them."""
    found: dict[str, list[str]] = {}
    received: dict[str, Any] = {}
    for problem in error.errors():
        place = problem["loc"]
        # A union puts the name of each of its types behind the place.
        named = [part for part in place if isinstance(part, int) or "[" not in part and part not in _TYPES]
        where = ".".join(str(part) for part in named) or "the request"
        text = problem["msg"]
        if problem["type"] in ("extra_forbidden", "unknown_key"):
            where, text = str(place[0]), f"is not part of a request{nearest(str(place[0]), known) or '.'}"
            found[where] = [text]
            continue
        found.setdefault(where, []).append(text.removeprefix("Input should be ").removeprefix("a valid "))
        received[where] = problem["input"]
    return [
        f"`{where}` {texts[0]}{'' if texts[0].endswith(('.', '?')) else '.'}"
        if where not in received
        else f"`{where}` should be {' or '.join(dict.fromkeys(texts))}. Received: {_kind(received[where])}."
        for where, texts in found.items()
    ]


#: Names by which pydantic tells the types of a union apart.
_TYPES = {"str", "int", "constrained-str", "constrained-int", "none"}


def _kind(value: Any) -> str:
    """A value as JSON says it, cut to a line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else None
    text = text or (f'"{value}"' if isinstance(value, str) else str(value))
    return text if len(text) <= 80 else text[:79] + "…"
