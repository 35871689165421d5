"""The gateway without HTTP: users in, ranked items out, within a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

from features.errors import InputError
from serving.experiments.assignment import Assignment
from serving.gateway.admission import Admission
from serving.gateway.behavior_writers import BehaviorWriters
from serving.gateway.config import GatewayConfig
from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.refusal import BAD_REQUEST, GatewayError
from serving.gateway.releases.open_releases import OpenReleases
from serving.gateway.releases.release_view import ReleaseView
from serving.gateway.schema import (
    BehaviorsAnswer,
    BehaviorsRequest,
    Flag,
    RankRequest,
    Recommendation,
    RecommendRequest,
)
from serving.gateway.stages.answering import Answering
from serving.gateway.stages.journey import Notes
from serving.gateway.stages.model_client import ModelClient
from serving.gateway.stages.workers import Workers
from serving.gateway.traffic import Traffic
from serving.release.manifest import Release
from serving.release.registry import Releases

#: Of a request's deadline, what is left for making the answer when the last stage is cut off.
_ANSWER_SHARE = 0.05
#: Seconds in which the server says whether it serves a release.
_STATUS_S = 5.0
#: HTTP's status where the caller went away.
_GONE = 499


class Gateway:
    """Answers requests by the cascade of a release that a server serves.

    Example:
      gateway = await Gateway.open(GatewayConfig(root="serving_models", server="127.0.0.1:8500"))
      answer = await gateway.recommend(RecommendRequest(user="u7", k=5))
      await gateway.close()

    Attributes:
      config: what bounds it.
      metrics: its figures.
    """

    def __init__(self, config: GatewayConfig):
        """Use `open`: a gateway belongs to the event loop that it was opened on."""
        self.config = config
        self.metrics = GatewayMetrics()
        self._admission = Admission(config.max_concurrent, config.max_waiting)
        # Apart: a disk that hangs must not keep tensors from being made, nor a large catalogue either.
        self._workers = ThreadPoolExecutor(config.max_concurrent, "gateway-work")
        self._readers = ThreadPoolExecutor(config.max_concurrent, "gateway-read")
        self._openers = ThreadPoolExecutor(2, "gateway-open")
        self._client = ModelClient(config.server, self._workers, config.max_message_bytes)
        self._writers = BehaviorWriters(self._client)
        self._releases = OpenReleases(
            Releases(config.root),
            config.label,
            self._missing,
            self._openers,
            config.max_open_releases,
            config.poll_s,
            self._writers.prepare,
        )
        self.metrics.watch(
            lambda: len(self._releases.open_ids), lambda: self._admission.waiting, lambda: self._admission.working
        )
        self._traffic = Traffic(config)
        self._releases.keep(self._traffic.releases)
        self._answering = Answering(
            config, self._client, Workers(self._workers), self._readers, self.metrics, self._traffic
        )
        self._following: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, config: GatewayConfig) -> Gateway:
        """Connects, and opens the release that the label names if the server serves it; `ready` says whether it does.

        A gateway that is not ready looks again every `poll_s` seconds.

        Raises:
          SpecError: if the file of the experiments cannot be used.
        """
        gateway = cls(config)
        await gateway._releases.look()
        gateway._following = asyncio.create_task(gateway._releases.follow_for_ever(config.poll_s))
        return gateway

    async def close(self) -> None:
        """Ends: stops following, closes releases and connection. Requests in flight should have ended before."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._releases.close()
        await self._client.close()
        await asyncio.get_running_loop().run_in_executor(None, self._traffic.close)
        for pool in (self._workers, self._readers, self._openers):
            pool.shutdown(wait=False, cancel_futures=True)

    def ready(self) -> list[str]:
        """Returns why the gateway cannot answer yet, a sentence each; none: it can."""
        reason = self._releases.reason if self._releases.followed is None else self._releases.unserved
        return [reason] if reason else []

    @property
    def release(self) -> str | None:
        """Id of the release that answers requests which name none; None: none is open."""
        return None if self._releases.followed is None else self._releases.followed.id

    def hold(self, release: str | None = None) -> contextlib.AbstractAsyncContextManager[ReleaseView]:
        """Returns a block that keeps a release open for reading, as the page does.

        Args:
          release: its id or a label; None: the one that answers requests.
        """
        return self._releases.hold(release)

    async def recommend(self, request: RecommendRequest, *, shown: bool = True) -> Recommendation:
        """Returns the best items of the catalogue for a user.

        Args:
          request: who asks, and for what.
          shown: whether the list goes to the user; one that is only looked at is in no exposure log.

        Raises:
          GatewayError: if there is no answer; its `status` says why.
        """
        async with self._answered("recommend", request) as (view, _, assignment, notes):
            notes.shown = shown
            return await self._answering.recommend(view, request, assignment, notes)

    async def rank(self, request: RankRequest, *, shown: bool = True) -> Recommendation:
        """Returns a caller's own candidates in the fine ranker's order.

        Args:
          request: who asks, and the candidates.
          shown: as of `recommend`.

        Raises:
          GatewayError: if there is no answer; its `status` says why.
        """
        async with self._answered("rank", request) as (view, _, assignment, notes):
            notes.shown = shown
            return await self._answering.rank(view, request, assignment, notes)

    async def append_behaviors(self, request: BehaviorsRequest) -> BehaviorsAnswer:
        """Takes in what users did; their next requests see it.

        Raises:
          GatewayError: if it cannot be taken in; nothing is.
        """
        with self._counted("behaviors"):
            until = time.monotonic() + self.config.deadline_ms / 1000
            async with self._admission.place(until), self._releases.hold() as view:
                answer = await self._writers.append(view, request.events)
        self.metrics.behaviors(answer.appended)
        return answer

    @contextlib.asynccontextmanager
    async def _answered(
        self, kind: str, request: RecommendRequest
    ) -> AsyncIterator[tuple[ReleaseView, RecommendRequest, Assignment, Notes]]:
        """A place for a request and the release that answers it; counts how the request ends."""
        notes = Notes(
            time.monotonic() + self.config.deadline_ms / 1000 * (1 - _ANSWER_SHARE), self.metrics.stage_failed
        )
        with self._counted(kind):
            if request.release is not None and not self.config.allow_releases:
                raise InputError("`release`: this gateway lets no request name its release (`allow_releases`).")
            assignment = self._traffic.assign(request)
            async with self._admission.place(notes.deadline), contextlib.AsyncExitStack() as held:
                name, until = request.release, notes.deadline
                if name is None and assignment.release is not None:
                    # Variants' releases are kept open: one that is not is not waited for.
                    name, until = assignment.release, time.monotonic()
                try:
                    view = await held.enter_async_context(self._releases.hold(name, until))
                except GatewayError:
                    if request.release is not None or name is None:
                        raise
                    # Another release than the variant's: whoever reads the experiment must not count it.
                    notes.flags.add(Flag.VARIANT_UNAVAILABLE)
                    assignment = Assignment({}, None, None, assignment.forced)
                    view = await held.enter_async_context(self._releases.hold())
                yield view, request, assignment, notes

    @contextlib.contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        """Counts how a request ends, and makes what its caller did wrong a refusal."""
        begun, status = time.perf_counter(), 500
        try:
            yield
            status = 200
        except GatewayError as error:
            status = error.status
            raise
        except InputError as error:
            status = BAD_REQUEST
            raise GatewayError(status, str(error)) from error
        except asyncio.CancelledError:
            status = _GONE
            raise
        finally:
            self.metrics.request(kind, status, begun)

    async def _missing(self, release: Release) -> list[str]:
        """What the server does not serve of a release: of its cascade, or of its fine ranker alone."""
        asked = set(release.cascade_models.values())
        models = [model for model in release.models if model.name in asked or not asked and model.stage == "fine"]
        return await self._client.missing(models, _STATUS_S)
