"""The writers of behaviours of all open releases: what is appended to one, the others take in too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from features.errors import ClickmillError
from serving.gateway.behaviors import BehaviorWriter, Client
from serving.gateway.refusal import UNAVAILABLE, GatewayError
from serving.gateway.schema import BehaviorEvent, BehaviorsAnswer
from serving.user_stores.environment import StoreError

if TYPE_CHECKING:
    from serving.gateway.releases.release_view import ReleaseView


class BehaviorWriters:
    """Holds a writer for each open release whose stores can be written. All methods belong to one event loop.

    Args:
      client: asks fine rankers to embed behaviours.
    """

    def __init__(self, client: Client):
        self._client = client
        self._writers: dict[str, BehaviorWriter] = {}

    async def prepare(self, view: ReleaseView) -> None:
        """Lets the stores of a release that was opened take in what they lack, and keeps them so until it is closed.

        A release without profiles, or one whose stores cannot be written here, is read as it is.
        """
        if view.profiles is None or view.spec.history is None:
            return
        try:
            writer = await BehaviorWriter.open(view, self._client)
        except (ClickmillError, OSError) as error:
            logging.getLogger(__name__).warning("Behaviours are not taken in for %s: %s", view.id, error)
            return
        self._writers[view.id] = writer
        following = asyncio.create_task(writer.follow_for_ever())

        def close() -> None:
            following.cancel()
            if self._writers.get(view.id) is writer:
                del self._writers[view.id]
            writer.close()

        view.on_close(close)

    async def append(self, view: ReleaseView, events: Sequence[BehaviorEvent]) -> BehaviorsAnswer:
        """Takes events in by the writer of a release, and lets those of the other open releases follow.

        Raises:
          RequestError: if an event does not hold what the release's histories hold; none is taken in.
          GatewayError: if the release has no store that they could go to, or it cannot be written.
        """
        writer = self._writers.get(view.id)
        if writer is None:
            raise GatewayError(
                UNAVAILABLE, "Behaviours are not taken in: the release has no store that they could go to."
            )
        try:
            answer = await writer.append(events)
        except (StoreError, OSError) as error:
            raise GatewayError(UNAVAILABLE, f"Behaviours cannot be taken in: {error}") from error
        others = [each for each in self._writers.values() if each is not writer]
        for failed in await asyncio.gather(*(each.catch_up() for each in others), return_exceptions=True):
            if failed is not None:
                logging.getLogger(__name__).warning("Stores of another release lag behind: %s", failed)
        return answer
