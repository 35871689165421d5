"""Parity on real requests: joint graph = export = gRPC = REST, every signature, merged or not, filled up or not.

    python -m tests.drills.parity.parity --run runs/simulated --requests 1000
    python -m tests.drills.parity.parity --run runs/simulated --only simulated_autoint --place embedded

Requests of the test split of a finished run are asked of every model of its release, as each signature takes them: the
embedded server and, where `TF_SERVING_BINARY` or the PATH has it, TensorFlow Serving answer them, warmed up, over gRPC
and REST; each alone, filled up behind as a server that merges fills up, several in one call, and merged by the server
from calls of many callers. An answer may differ from what the export computes by 1e-6; scores from bucket tables may by
1e-5 from those of the joint graph, which reads the behaviours themselves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from evaluation.serving_check import AnswerComparison
from features.examples.raw_sample import read_requests
from serving.deploy.served import ServedModel
from serving.saved.ranker import SavedRanker
from serving.saved.signature_specs import RETRIEVE, SERVING_DEFAULT
from serving.validation.comparison import SAME_GRAPH, THROUGH_TABLES, Comparisons
from serving.validation.wires import GrpcClient, predict_body, predict_path, rest_predict
from tests.drills.parity.forms import Call, Shapes, alike, alone, answers_of, together, widened
from tests.drills.parity.places import CALLERS, PLACES, Place, serve
from tests.drills.parity.real_requests import (
    Tensors,
    joint_scores,
    nearest_scores,
    own_candidates,
    requests_of,
)
from tests.serving.conformance.servers import real_binary

#: Place → the forms in which it is asked. A server that merges is asked by many callers at once.
FORMS = {
    "embedded": {"alone": alone, "filled up": widened, "merged by the caller": together},
    "real": {"alone": alone, "filled up": widened, "merged by the caller": together},
    "real-merging-alike": {"merged": alike},
    "real-merging": {"merged": alone},
}
#: Values of an answer: of those with more, as attention over all fields, REST is asked for every tenth.
_REST_VALUES = 20_000


class Exported(NamedTuple):
    """A model under trial.

    Attributes:
      name: under which it is served.
      saved: the export, opened.
      requests: by signature.
      expected: what the export computes of each.
    """

    name: str
    saved: SavedRanker
    requests: dict[str, list[Tensors]]
    expected: dict[str, list[Tensors]]


def prepare(name: str, directory: Path, rows: pa.Table, found: Comparisons) -> Exported:
    """Opens an export, has it compute real rows, and holds that against the joint graph, or the stored vectors.

    Args:
      name: under which it is served.
      directory: its version's folder.
      rows: raw requests with their windows.
      found: where to note what differs.
    """
    saved = SavedRanker(directory)
    requests = requests_of(saved, rows)
    expected = {name: [saved.run(name, each) for each in several] for name, several in requests.items()}
    tables = saved.history is not None and saved.history.simhash is not None
    for number, joint in enumerate(joint_scores(saved, rows) or []):
        own = own_candidates(requests[SERVING_DEFAULT][number], expected[SERVING_DEFAULT][number])
        found.add("joint graph = export", SERVING_DEFAULT, joint, own, THROUGH_TABLES if tables else SAME_GRAPH)
    for number, scores in enumerate(nearest_scores(saved, requests) or []):
        found.add("exact search = export", RETRIEVE, scores, {"score": expected[RETRIEVE][number]["score"]})
    return Exported(name, saved, requests, expected)


class Asked(NamedTuple):
    """What was asked of a server in one form.

    Attributes:
      signature: that was asked.
      between: the export and the place that were compared.
      calls: that were made.
      runs: that the server made of them where it merges requests; 0 elsewhere.
    """

    signature: str
    between: str
    calls: int
    runs: int


def compare(place: str, server: Place, model: Exported, found: Comparisons) -> Iterator[Asked]:
    """Asks a server for all requests of a model in the forms that fit it.

    Args:
      place: one of `FORMS`.
      server: the server there.
      model: that is asked.
      found: where to note what differs.

    Yields:
      What was asked, once it is compared.
    """
    with ThreadPoolExecutor(CALLERS) as pool, _Wires(server, model.name) as wires:
        for form, signature, wire in itertools.product(FORMS[place], model.requests, ("gRPC", "REST")):
            calls = list(_calls(FORMS[place][form], model, signature, wire))
            before = server.merged_runs()
            answers = pool.map(lambda call, to=wire, of=signature: wires.ask(to, of, call.tensors), calls)
            between = f"export = {wire}, {place}, {form}"
            for call, answer in zip(calls, answers, strict=True):
                for expected, part in answers_of(call, answer, model.expected[signature]):
                    found.add(between, signature, expected, part)
            yield Asked(signature, between, len(calls), server.merged_runs() - before)


def _calls(form: Callable, model: Exported, signature: str, wire: str) -> Iterator[Call]:
    shapes: Shapes = {name: tuple(spec.shape[1:]) for name, spec in model.saved.inputs(signature).items()}
    for number, call in enumerate(form(model.requests[signature], shapes)):
        values = sum(each.size for part in call.parts for each in model.expected[signature][part[0]].values())
        if wire == "gRPC" or values <= _REST_VALUES or number % 10 == 0:
            yield call


class _Wires:
    """Both ways to ask a server for a model; a context manager."""

    def __init__(self, server: Place, model: str):
        self._server, self._model = server, model
        self._client = GrpcClient(server.grpc_port, model)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._client.close()

    def ask(self, wire: str, signature: str, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        if wire == "gRPC":
            return self._client.predict(signature, tensors)
        return rest_predict(self._server.rest_port, predict_path(self._model), predict_body(signature, tensors))


def released(run: Path) -> dict[str, Path]:
    """Returns the version's folder of every model that a run released, by the model's name."""
    manifest = json.loads((run / "manifest.json").read_text())
    folders = {(run / model["directory"]).resolve(): model["version"] for model in manifest["models"].values()}
    return {folder.name: folder / version for folder, version in folders.items()}


def real_rows(run: Path, saved: SavedRanker, count: int) -> pa.Table:
    """Returns raw requests of a run's test split, with their windows."""
    ingested = run / "artifacts" / "LogIngest"
    examples, behaviors = (
        max((ingested / name).iterdir(), key=lambda path: int(path.name)) for name in ("examples", "behaviors")
    )
    return pa.concat_tables(read_requests(examples, behaviors, saved.spec, "test", count)).slice(0, count)


def report(found: Mapping[str, Comparisons]) -> int:
    """Prints the largest difference of each model's signatures in each place; returns how many are not equal."""
    wrong = 0
    for model, comparisons in found.items():
        print(f"\n{model}: largest difference (bound), requests, values")
        by_signature = sorted(comparisons.all(), key=_key)
        for (signature, between), several in itertools.groupby(by_signature, _key):
            outputs = list(several)
            unequal = [each.output for each in outputs if not each.equal]
            wrong += len(unequal)
            largest = max((each.largest for each in outputs if each.largest is not None), default=0.0)
            bound, requests = max(each.tolerance for each in outputs), max(each.requests for each in outputs)
            said = f"{signature}, {between}: {largest:.1e} ({bound:.0e}), {requests}, {sum(e.values for e in outputs)}"
            print(said + (f"  NOT EQUAL: {', '.join(unequal)}" if unequal else ""))
    return wrong


def _key(compared: AnswerComparison) -> tuple[str, str]:
    return compared.signature, compared.between


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the drill; returns 1 if an answer is off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/simulated"), help="a finished run")
    parser.add_argument("--requests", type=int, default=1000, help="of its test split")
    parser.add_argument("--only", action="append", help="models, by their names in the serving root")
    parser.add_argument("--place", action="append", choices=FORMS, help="where to ask; by default everywhere")
    options = parser.parse_args(argv)
    if not (options.run / "manifest.json").is_file():
        parser.error(f"{options.run} is no finished run: `make run` makes one.")
    places = options.place or [place for place in FORMS if place == "embedded" or real_binary()]
    if not options.place and not real_binary():
        print("TensorFlow Serving is not asked: set TF_SERVING_BINARY, or put tensorflow_model_server on the PATH.")
    found: dict[str, Comparisons] = {}
    for name, directory in released(options.run).items():
        if options.only and name not in options.only:
            continue
        found[name] = Comparisons()
        rows = real_rows(options.run, SavedRanker(directory), options.requests)
        model = prepare(name, directory, rows, found[name])
        served = {name: ServedModel(frozenset({int(directory.name)}))}
        for place in places:
            with tempfile.TemporaryDirectory() as work, serve(place, served, directory.parent.parent, Path(work)) as at:
                if at.warmed_up() != 1:
                    raise SystemExit(f"{name} is not warmed up in {place}")
                for asked in compare(place, at, model, found[name]):
                    merged = f" in {asked.runs} runs" if PLACES[place][0] else ""
                    print(f"{name} {asked.signature}, {asked.between}: {asked.calls} calls{merged}", flush=True)
    return 1 if report(found) or not found else 0


if __name__ == "__main__":
    sys.exit(main())
