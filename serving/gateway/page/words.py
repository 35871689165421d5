"""What the page says in words: flags, stages, what is wrong with a request."""

from __future__ import annotations

import reprlib
from typing import Any

from pydantic import ValidationError

from features.errors import InputError
from serving.gateway.schema import Flag, RankRequest, RecommendRequest
from serving.gateway.web.error_answers import Problem, problems_of

#: Stages and other parts of `stage_ms`, in the order in which a request goes through them.
STAGES = {
    "lookup": "Waiting for the bucket table",
    "retrieve": "Retrieval",
    "coarse": "Coarse ranking",
    "fine": "Fine ranking",
    "explain": "Attention, for this page",
    "total": "The whole request",
}

#: The cascade's stages where there is little room.
SHORT = {"retrieve": "Retrieval", "coarse": "Coarse", "fine": "Fine"}

FLAGS = {
    Flag.UNKNOWN_USER: "Neither profile nor bucket table know the user: the list is an anonymous visitor’s.",
    Flag.NO_PROFILE: "The profile store could not be read in time, or what it holds does not fit this release.",
    Flag.NO_TABLE: "The bucket table could not be read in time, or is another version’s: short history alone.",
    Flag.RETRIEVAL_FAILED: "The retrieval failed or was late.",
    Flag.POPULAR_ITEMS: "The candidates are the release’s popular items instead of retrieved ones.",
    Flag.NOTHING_RETRIEVED: "The retrieval answered with no item of the catalogue.",
    Flag.COARSE_FAILED: "The coarse ranker failed or was late: the fine ranker got the first candidates as they came.",
    Flag.FINE_FAILED: "The fine ranker failed or was late: the list has the coarse order, and no probabilities.",
    Flag.NAN_SCORES: "A stage gave scores that are no numbers; such items stand behind all others.",
    Flag.FEWER_THAN_K: "The list is shorter than was asked for: there were no more candidates.",
    Flag.EXPLANATION_FAILED: "The fine ranker did not say what it attended to: it was late, or its export cannot.",
    Flag.VARIANT_UNAVAILABLE: "The release of the user’s variant cannot be asked: the served one answered instead.",
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
      InputError: a sentence for each thing that is wrong: where, what is expected, the value.
    """
    if not isinstance(values, dict):
        raise InputError(f'A request is an object, as {{"user": "u7", "k": 10}}. Received: {reprlib.repr(values)}.')
    model = RankRequest if "candidates" in values else RecommendRequest
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError("\n".join(map(_sentence, problems_of(error.errors())))) from error


def _sentence(problem: Problem) -> str:
    where = f"`{problem.where}`" if problem.where else "the request"
    told = problem.message.replace("Input should be", "should be")
    joint = " " if told.startswith(("is ", "should be")) else ": "
    return f"{where}{joint}{told}{'' if told.endswith(('?', '.')) else '.'} Received: {problem.received}."
