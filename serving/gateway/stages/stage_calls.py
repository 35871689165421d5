"""The stages of a release's cascade as calls of the server; what is computed around them is the cascade's own code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from serving.cascade import known_items
from serving.gateway.releases.release_view import ReleaseView, StageModel
from serving.gateway.stages.model_client import CallError, ModelClient, begun_request, read_answer, tensor_bytes
from serving.gateway.stages.workers import Workers
from serving.requests.stage_inputs import item_ids_of, item_slate
from serving.saved.signature_specs import DRAW_LOGITS, EXPLAIN

_FOUND, _COARSE, _FINE, _ATTENTION = ("item_id", "score"), ("score",), ("score", "logit"), ("attention",)
_DRAWN = ("logit", "deviation")


class Scored(NamedTuple):
    """What a stage answered.

    Attributes:
      items: [n] what it scored: rows of the catalogue, or places among a caller's own candidates.
      scores: [n] float32: cosines, the coarse ranker's scores, the fine ranker's logits.
      seconds: of the call, from the request's bytes to the answer's.
      probabilities: [n] of the fine ranker.
      deviations: [n, M] what M draws of the fine ranker's last layer add to the logits, where they were asked for.
    """

    items: np.ndarray
    scores: np.ndarray
    seconds: float
    probabilities: np.ndarray | None = None
    deviations: np.ndarray | None = None


class StageCalls:
    """Asks for one request, which is prepared first.

    A call raises `CallError` where it brings no usable answer by `until`, in `time.monotonic`'s seconds.

    Args:
      view: the release that everything is of.
      client: of the server.
      workers: do what takes long.
      row: the raw request with its windows.
      size: of the row, for them.
      draws: whether the fine ranker is asked for what draws of its last layer add to the logits, too.
    """

    def __init__(
        self, view: ReleaseView, client: ModelClient, workers: Workers, row: pa.Table, size: int, *, draws: bool = False
    ):
        self._view, self._client, self._workers, self._row, self._size = view, client, workers, row, size
        self._draws = draws
        self._coarse: asyncio.Future[bytes]
        self._fine: asyncio.Future[bytes]
        self._long_sums: asyncio.Future[np.ndarray | None]

    def prepare(self, long_sums: asyncio.Future[np.ndarray | None]) -> None:
        """Begins with the request's part of the later stages' inputs, so that it is made while the retrieval runs.

        Args:
          long_sums: the user's bucket sums [G, 2^tau, d] once they are read; None: there are none.
        """
        self._long_sums = long_sums
        self._fine = asyncio.ensure_future(self._begun_fine())
        if self._view.coarse is not None:
            self._coarse = asyncio.ensure_future(self._begun_coarse())

    async def retrieve(self, count: int, until: float) -> Scored:
        """The `count` items that the retrieval finds and the catalogue holds, best first."""
        more = {"k": np.array([count], np.int32)}
        request = await self._workers.run(self._size, self._begun, self._view.retrieval, _FOUND, more)
        answer, seconds = await self._client.send(request, until)
        return Scored(*await self._workers.run(count, self._found, answer), seconds)

    async def coarse(self, items: np.ndarray, until: float) -> Scored:
        """The coarse ranker's scores of rows of the catalogue."""
        stage, ids, count = self._view.coarse, self._view.catalogue.item_ids, len(items)
        part = await self._workers.run(count, lambda: tensor_bytes(item_slate(ids.take(pa.array(items)))))
        answer, seconds = await self._client.send(await self._coarse + part, until)
        (scores,) = await self._workers.run(count, _scores, answer, stage, _COARSE, count)
        return Scored(items, scores, seconds)

    async def fine(self, slate: Callable[[], dict[str, np.ndarray]], items: np.ndarray, until: float) -> Scored:
        """The fine ranker's logits and probabilities of items, of which `slate` makes the inputs."""
        stage, (signature, _), size = self._view.fine, self._of_fine, len(items) * len(self._view.spec.features)
        part = await self._workers.run(size, lambda: tensor_bytes(stage.only_inputs(slate(), signature)))
        answer, seconds = await self._client.send(await self._fine + part, until)
        return await self._workers.run(size, self._scored, answer, items, seconds)

    async def attention(self, slate: Callable[[], dict[str, np.ndarray]], count: int, until: float) -> np.ndarray:
        """Where the fine ranker looks, [count, layers, H, M, M]."""
        stage, fields, sums = self._view.fine, len(self._view.attention_fields), await self._long_sums
        of_user = stage.inputs.tensors(self._row, _one_user(sums))
        tensors = stage.only_inputs(of_user | slate(), EXPLAIN)
        found = await self._client.predict(stage.released, EXPLAIN, tensors, _ATTENTION, until)
        maps = found["attention"]
        if maps.ndim != 6 or maps.shape[:2] != (1, count) or maps.shape[4:] != (fields, fields):
            raise CallError("BAD_ANSWER", f"`{EXPLAIN}` answered {maps.shape} for {count} items, {fields} fields.")
        return maps[0]

    async def _begun_coarse(self) -> bytes:
        await asyncio.sleep(0)  # The retrieval's message goes first: nobody waits for this one yet.
        return await self._workers.run(self._size, self._begun, self._view.coarse, _COARSE, {})

    async def _begun_fine(self) -> bytes:
        sums = await self._long_sums
        await asyncio.sleep(0)
        stage, (signature, outputs) = self._view.fine, self._of_fine
        return await self._workers.run(self._size, self._begun, stage, outputs, {}, _one_user(sums), signature)

    @property
    def _of_fine(self) -> tuple[str, tuple[str, ...]]:
        """The signature of the fine ranker that is asked, and its outputs that are wanted."""
        return (DRAW_LOGITS, _DRAWN) if self._draws else (self._view.fine.signature, _FINE)

    def _begun(
        self,
        stage: StageModel,
        outputs: tuple[str, ...],
        more: dict[str, np.ndarray],
        sums: np.ndarray | None = None,
        signature: str | None = None,
    ) -> bytes:
        """The request's part of a call's message."""
        tensors = stage.only_inputs(stage.inputs.tensors(self._row, sums) | more, signature)
        return begun_request(stage.released, signature or stage.signature, outputs, tensors)

    def _found(self, answer: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the catalogue and scores in an answer of the retrieval."""
        found = read_answer(answer, self._view.retrieval.released, _FOUND)
        ids, scores = found["item_id"], found["score"]
        if ids.ndim != 2 or len(ids) != 1 or ids.shape != scores.shape:
            raise CallError("BAD_ANSWER", f"the retrieval answered ids {ids.shape} and scores {scores.shape}.")
        try:
            return known_items(self._view.catalogue, item_ids_of(ids), scores[0])
        except pa.ArrowException as error:
            raise CallError(
                "BAD_ANSWER", f"the retrieval answered ids that are none of the catalogue: {error}"
            ) from error

    def _scored(self, answer: bytes, items: np.ndarray, seconds: float) -> Scored:
        """What the fine ranker answered."""
        stage = self._view.fine
        if not self._draws:
            probabilities, logits = _scores(answer, stage, _FINE, len(items))
            return Scored(items, logits, seconds, probabilities)
        found = read_answer(answer, stage.released, _DRAWN)
        logits, deviations = found["logit"], found["deviation"]
        if logits.shape != (1, len(items)) or deviations.ndim != 3 or deviations.shape[:2] != logits.shape:
            raise CallError("BAD_ANSWER", f"`{DRAW_LOGITS}` answered {logits.shape} and {deviations.shape}.")
        # Beyond float32's range of exp the logistic function is 0 or 1.
        probabilities = 1 / (1 + np.exp(-np.clip(logits[0], -88, 88)))
        return Scored(items, logits[0], seconds, probabilities, deviations[0])


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
