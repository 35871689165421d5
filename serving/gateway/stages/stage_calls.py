"""The stages of a release's cascade as calls of the server; what is computed around them is the cascade's own code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from serving.cascade import known_items
from serving.gateway.releases.release_view import ReleaseView, StageModel
from serving.gateway.stages.model_client import CallError, ModelClient, begun_request, read_answer, tensor_bytes
from serving.requests.stage_inputs import item_ids_of, item_slate
from serving.signature_specs import EXPLAIN

Made = TypeVar("Made")

_FOUND, _COARSE, _FINE, _ATTENTION = ("item_id", "score"), ("score",), ("score", "logit"), ("attention",)


class Scored(NamedTuple):
    """What a stage answered.

    Attributes:
      items: [n] what it scored: rows of the catalogue, or places among a caller's own candidates.
      scores: [n] float32: cosines, the coarse ranker's scores, the fine ranker's logits.
      seconds: of the call, from the request's bytes to the answer's.
      probabilities: [n] of the fine ranker.
    """

    items: np.ndarray
    scores: np.ndarray
    seconds: float
    probabilities: np.ndarray | None = None


class StageCalls:
    """Asks for one request, which is prepared first.

    A call raises `CallError` where it brings no usable answer by `until`, in `time.monotonic`'s seconds. Messages are
    made and read by the workers, so that the event loop goes on meanwhile.

    Args:
      view: the release that everything is of.
      client: of the server.
      workers: threads.
      row: the raw request with its windows.
    """

    def __init__(self, view: ReleaseView, client: ModelClient, workers: Executor, row: pa.Table):
        self._view, self._client, self._workers, self._row = view, client, workers, row
        self._coarse: Awaitable[bytes]
        self._fine: Awaitable[bytes]
        self._long_sums: asyncio.Future[np.ndarray | None]

    def prepare(self, long_sums: Awaitable[np.ndarray | None]) -> None:
        """Begins with the request's part of the later stages' inputs, so that it is made while the retrieval runs.

        Args:
          long_sums: the user's bucket sums [G, 2^tau, d] once they are read; None: there are none.
        """
        self._long_sums = asyncio.ensure_future(long_sums)
        self._fine = asyncio.ensure_future(self._begun_fine())
        if self._view.coarse is not None:
            self._coarse = self._work(self._begun, self._view.coarse, _COARSE, {})

    async def retrieve(self, count: int, until: float) -> Scored:
        """The `count` items that the retrieval finds and the catalogue holds, best first."""
        stage = self._view.retrieval
        request = await self._work(self._begun, stage, _FOUND, {"k": np.array([count], np.int32)})
        answer, seconds = await self._client.send(request, until)
        return Scored(*await self._work(self._found, answer), seconds)

    async def coarse(self, items: np.ndarray, until: float) -> Scored:
        """The coarse ranker's scores of rows of the catalogue."""
        stage = self._view.coarse
        items_part = self._work(lambda: tensor_bytes(item_slate(self._view.catalogue.item_ids.take(pa.array(items)))))
        answer, seconds = await self._client.send(await self._coarse + await items_part, until)
        (scores,) = await self._work(_scores, answer, stage, _COARSE, len(items))
        return Scored(items, scores, seconds)

    async def fine(self, slate: Callable[[], dict[str, np.ndarray]], items: np.ndarray, until: float) -> Scored:
        """The fine ranker's logits and probabilities of items, of which `slate` makes the inputs."""
        stage = self._view.fine
        items_part = self._work(lambda: tensor_bytes(stage.only_inputs(slate())))
        answer, seconds = await self._client.send(await self._fine + await items_part, until)
        probabilities, logits = await self._work(_scores, answer, stage, _FINE, len(items))
        return Scored(items, logits, seconds, probabilities)

    async def attention(self, slate: Callable[[], dict[str, np.ndarray]], count: int, until: float) -> np.ndarray:
        """Where the fine ranker looks, [count, layers, H, M, M]."""
        stage, fields, sums = self._view.fine, len(self._view.attention_fields), await self._long_sums
        tensors = await self._work(
            lambda: stage.only_inputs(stage.inputs.tensors(self._row, _one_user(sums)) | slate(), EXPLAIN)
        )
        found = await self._client.predict(stage.released, EXPLAIN, tensors, _ATTENTION, until)
        maps = found["attention"]
        if maps.ndim != 6 or maps.shape[:2] != (1, count) or maps.shape[4:] != (fields, fields):
            raise CallError("BAD_ANSWER", f"`{EXPLAIN}` answered {maps.shape} for {count} items, {fields} fields.")
        return maps[0]

    async def _begun_fine(self) -> bytes:
        sums = await self._long_sums
        return await self._work(self._begun, self._view.fine, _FINE, {}, _one_user(sums))

    def _begun(
        self, stage: StageModel, outputs: tuple[str, ...], more: dict[str, np.ndarray], *sums: np.ndarray | None
    ) -> bytes:
        """The request's part of a call's message."""
        tensors = stage.only_inputs(stage.inputs.tensors(self._row, *sums) | more)
        return begun_request(stage.released, stage.signature, outputs, tensors)

    def _found(self, answer: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the catalogue and scores in an answer of the retrieval."""
        found = read_answer(answer, self._view.retrieval.released, _FOUND)
        ids, scores = found["item_id"], found["score"]
        if ids.ndim != 2 or len(ids) != 1 or ids.shape != scores.shape:
            raise CallError("BAD_ANSWER", f"the retrieval answered ids {ids.shape} and scores {scores.shape}.")
        return known_items(self._view.catalogue, item_ids_of(ids), scores[0])

    def _work(self, work: Callable[..., Made], *arguments) -> Awaitable[Made]:
        return asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)


def _scores(answer: bytes, stage: StageModel, outputs: tuple[str, ...], count: int) -> list[np.ndarray]:
    """The outputs [1, count] of an answer, each [count]."""
    found = read_answer(answer, stage.released, outputs)
    for name in outputs:
        if found[name].shape != (1, count):
            raise CallError("BAD_ANSWER", f"`{name}` must be [1, {count}]. Received: {found[name].shape}.")
    return [found[name][0] for name in outputs]


def _one_user(sums: np.ndarray | None) -> np.ndarray | None:
    return None if sums is None else sums[np.newaxis]


def until(deadline: float, milliseconds: float) -> float:
    """When a stage must have answered that begins now, in `time.monotonic`'s seconds; never after the deadline."""
    return min(deadline, time.monotonic() + milliseconds / 1000)
