"""What the gateway reads of a user beside the server: the profile before the retrieval, the bucket table beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from features.errors import ClickmillError
from features.histories.windows import TIMESTAMP
from features.spec import FeatureSpec
from serving.gateway.schema import RecommendRequest
from serving.user_stores.profiles.store import Profile


@dataclass(frozen=True)
class Looked:
    """What a lookup brought.

    Attributes:
      found: the value; None: there is none for this user.
      failed: whether it could not be read in time.
    """

    found: Any = field(default=None)
    failed: bool = False


async def look_up(workers: Executor, get: Callable[[Any], Any], user: str | int, seconds: float) -> Looked:
    """Reads something of a user on a worker.

    Args:
      workers: whose threads may wait for a disk.
      get: `BseStore.get` or `ProfileStore.get`.
      user: whom.
      seconds: after which the reader is not waited for.
    """
    reading = asyncio.get_running_loop().run_in_executor(workers, get, user)
    try:
        return Looked(await asyncio.wait_for(reading, max(0.0, seconds)))
    except asyncio.TimeoutError:
        return Looked(failed=True)
    except (ClickmillError, OSError, TypeError) as error:
        logging.getLogger(__name__).warning("The stores cannot be read for user %r: %s", user, error)
        return Looked(failed=True)


def request_of(request: RecommendRequest, timestamp: int, profile: Profile | None, spec: FeatureSpec) -> dict[str, Any]:
    """One JSON request (serving/requests/json_request.py): what is stored, under what was sent.

    Args:
      request: what was sent.
      timestamp: of the request, UTC milliseconds.
      profile: what is stored of the user; None: nothing.
      spec: of the release. A profile may hold what other releases read: that is left out.
    """
    known = {feature.name for feature in spec.of_scope("request")} - set(request.context)
    stored = {} if profile is None else profile.features
    features = {name: value for name, value in stored.items() if name in known}
    if request.user is not None:
        features["user_id"] = request.user
    behaviors: list[dict[str, Any]] = request.history or []
    if request.history is None and profile is not None and spec.history is not None:
        read = {*spec.history.features, "item_id", TIMESTAMP}
        behaviors = [{name: value for name, value in each.items() if name in read} for each in profile.behaviors]
    return {"user": features, "context": request.context, TIMESTAMP: timestamp, "history": behaviors}
