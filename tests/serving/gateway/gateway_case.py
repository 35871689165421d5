"""A release of a small cascade of real exports, and a server between the gateway and the real one that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from evaluation.baselines import count_items
from evaluation.cascade.config import CascadeConfig
from features.arrow import write_parquet
from serving.cascade import Cascade
from serving.release.cascade_options import cascade_options
from serving.release.manifest import Release, ReleasedModel, ReleasedTables
from serving.release.publish_release import publish_release
from serving.release.registry import Releases
from serving.user_stores.bse.table_job import build_behavior_tables

STAGES = {"two_tower": "retrieval", "hcn": "coarse", "autoint": "fine"}
SIZES = CascadeConfig(retrieve=60, coarse=20, top_k=5)
#: Methods of the real server, which a faulty one passes on.
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def push_models(
    work: Path, root: Path, version: int = 1, names: tuple[str, ...] = tuple(STAGES)
) -> list[ReleasedModel]:
    """Copies the exports of `cascade_example` into a serving root; returns what a release says of them."""
    for name in names:
        shutil.copytree(work / name / "1", root / name / str(version))
    return [
        ReleasedModel(name=name, stage=STAGES[name], version=version, path=f"{name}/{version}", kind=name)
        for name in names
    ]


def publish(work: Path, root: Path, models: list[ReleasedModel], **facts: Any) -> Release:
    """Publishes a cascade of models, with tables, items and the most clicked of them."""
    fine = next(model for model in models if model.stage == "fine")
    built = build_behavior_tables(root / fine.path, work / "raw" / "behaviors", root / "autoint_bse")
    tables = ReleasedTables(model=fine.name, version=built["version"], path="autoint_bse")
    popular = root.parent / f"{root.name}_popular_items.parquet"
    write_parquet(count_items(work / "raw" / "examples", "click").most_clicked(50), popular)
    facts = {
        "items": work / "raw" / "examples" / "catalogue" / "items.parquet",
        "popular_items": popular,
        "tables": (tables,),
        "cascade": SIZES,
        "cascade_models": {model.stage: model.name for model in models},
        **facts,
    }
    return publish_release(root, models, **facts)


def cascade_of(root: Path, release: Release) -> Cascade:
    """The same cascade in process."""
    options = cascade_options(Releases(root), release)
    return Cascade.load(
        options["two_tower"],
        options["ranker"],
        options["items"],
        coarse=options["coarse"],
        tables=options["tables"],
        config=release.cascade,
    )


def list_without(cascade: Cascade, row: pa.Table, popular: np.ndarray, broken: set[str]) -> list[str]:
    """The ids that the rules give where models are broken, by the parts of the cascade in process."""
    items = popular if "two_tower" in broken else cascade.retrieve(row, cascade.config.retrieve)[0]
    if "hcn" in broken:
        items = items[: cascade.config.coarse]
    else:
        items = _best_first(cascade.coarse_scores(row, items), items)[: cascade.config.coarse]
    if "autoint" not in broken:
        items = _best_first(cascade.ranker.score_items(row, cascade.catalogue.tensors(items))["logit"], items)
    return cascade.catalogue.item_ids.take(pa.array(items[: cascade.config.top_k])).to_pylist()


def _best_first(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    return np.array([item for _, item in sorted(zip((-scores).tolist(), items.tolist(), strict=True))], np.int64)


class Loop:
    """An event loop in a thread: one for all tests, as gRPC's client on event loops wants it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def __call__(self, work: Coroutine, timeout_s: float = 120.0) -> Any:
        """What a coroutine returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self) -> None:
        """Ends the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class FaultyServer(grpc.GenericRpcHandler):
    """Passes calls on to a server, but for those of models that are said to be broken.

    Attributes:
      faults: by model: `fail` answers UNAVAILABLE, `freeze` does not answer, and a function changes the outputs, a
        dictionary of arrays.
      calls: (model, version, signature) of every call.
    """

    def __init__(self, address: str):
        self._channel = grpc.insecure_channel(address)
        self._thawed = threading.Event()
        self.faults: dict[str, Any] = {}
        self.calls: list[tuple[str, int, str]] = []

    def service(self, details):
        """Of grpc.GenericRpcHandler: one handler for every method."""
        on = self._channel.unary_unary(details.method)
        work = self._predict if details.method == PREDICT else _passed_on
        return grpc.unary_unary_rpc_method_handler(lambda request, context: work(on, request, context))

    def thaw(self) -> None:
        """Ends all faults, and the calls that hang."""
        self.faults = {}
        self._thawed.set()
        self._thawed = threading.Event()

    def _predict(self, on, request: bytes, context) -> bytes:
        asked = PredictRequest.FromString(request).model_spec
        self.calls.append((asked.name, asked.version.value, asked.signature_name))
        fault = self.faults.get(asked.name)
        if fault == "fail":
            context.abort(grpc.StatusCode.UNAVAILABLE, "this model is down")
        if fault == "freeze":
            # Whoever waits no longer gives up the thread: others are passed on meanwhile.
            while context.is_active() and not self._thawed.wait(0.05):
                pass
        answer = _passed_on(on, request, context)
        return _changed(answer, fault) if callable(fault) else answer


def _passed_on(on, request: bytes, context) -> bytes:
    try:
        return on(request, timeout=60)
    except grpc.RpcError as error:
        context.abort(error.code(), error.details())


def _changed(answer: bytes, change) -> bytes:
    response = PredictResponse.FromString(answer)
    outputs = {name: np.array(tf.make_ndarray(proto)) for name, proto in response.outputs.items()}
    response.ClearField("outputs")
    for name, values in change(outputs).items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
    return response.SerializeToString()


@contextlib.contextmanager
def faulty(address: str) -> Iterator[tuple[FaultyServer, str]]:
    """A faulty server before another one, and its address."""
    handler = FaultyServer(address)
    pool = ThreadPoolExecutor(64)
    server = grpc.server(pool, handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler, f"127.0.0.1:{port}"
    finally:
        handler.thaw()
        server.stop(0).wait()
        pool.shutdown()
