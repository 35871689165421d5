"""Parity in short: exports of every kind, asked for every signature in every form, here and by TensorFlow Serving."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from features.examples.raw_sample import read_requests
from features.items.catalogue import read_catalogue
from features.items.signatures import sign_items
from models.autoint.model import AutoInt, AutoIntConfig
from models.inputs.input_pipeline import InputConfig, make_dataset
from serving.deploy.served import ServedModel
from serving.export.ranker import export_ranker
from serving.saved.signature_specs import SERVING_DEFAULT
from serving.validation.comparison import Comparisons
from tests.contracts.test_exports import coarse_export, some_rows, two_tower_export
from tests.drills.parity.forms import Call, alike, answers_of, together, widened
from tests.drills.parity.parity import FORMS, compare, prepare
from tests.drills.parity.places import PLACES, serve
from tests.serving.conformance.servers import real_binary

ROWS = 12
_NO_BINARY = "TensorFlow Serving is not here: TF_SERVING_BINARY, or tensorflow_model_server on the PATH"
EVERYWHERE = [
    pytest.param(place, marks=pytest.mark.skipif(place != "embedded" and not real_binary(), reason=_NO_BINARY))
    for place in FORMS
]


def signed_ranker_export(request):
    """A ranker with all signatures that rankers have: bucket tables, and signatures of items that it is given."""
    directory, encoding = request.getfixturevalue("small_log")
    ids = read_catalogue(directory)["_item_id"].combine_chunks()
    given = sign_items(ids, np.random.default_rng(1).normal(size=(len(ids), 12)))
    history = {"short": "din", "long": "sdim", "signature_source": "two_tower"}
    tf.keras.utils.set_random_seed(3)
    model = AutoInt(encoding, AutoIntConfig(num_layers=1, head_dim=8, history=history), given)
    model(next(iter(make_dataset(directory, "eval", encoding, InputConfig(batch_size=512), histories=True))))
    for weight in model.trainable_weights:  # at initial weights histories say little
        weight.assign_add(tf.random.normal(weight.shape, stddev=0.1))
    rows = some_rows(request)
    return lambda target: export_ranker(model, encoding, target, rows, item_signatures=given)


KINDS = {"ranker": signed_ranker_export, "two_tower": two_tower_export, "coarse": coarse_export}


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tmp_path_factory):
    """What is served, the folder of models, the export with its real requests, and what `prepare` compared."""
    base, found = tmp_path_factory.mktemp("models"), Comparisons()
    directory = KINDS[request.param](request)(base / request.param / "1")
    raw, spec = request.getfixturevalue("raw_small_log"), request.getfixturevalue("small_log")[1].spec
    rows = pa.concat_tables(read_requests(raw, raw / "behaviors", spec, "eval", ROWS)).slice(0, ROWS)
    model = prepare(request.param, directory, rows, found)
    return {request.param: ServedModel(frozenset({1}))}, base, model, found


@pytest.mark.slow
def test_the_export_computes_what_the_joint_graph_does(exported):
    _, _, model, found = exported
    assert found.all() and all(each.equal for each in found.all()), found.all()
    assert all(len(several) == ROWS for several in model.requests.values())


@pytest.mark.slow
@pytest.mark.parametrize("place", EVERYWHERE)
def test_every_signature_answers_alike_in_every_form(place, exported, tmp_path):
    served, base, model, _ = exported
    found = Comparisons()
    with serve(place, served, base, tmp_path) as server:
        assert server.warmed_up() == 1
        asked = list(compare(place, server, model, found))
    assert [each for each in found.all() if not each.equal] == []
    assert {(each.signature, each.output) for each in found.all()} == {
        (signature, output) for signature, answers in model.expected.items() for output in answers[0]
    }
    assert len(asked) == 2 * len(FORMS[place]) * len(model.requests)
    merging, _ = PLACES[place]
    assert merging == any(0 < each.runs < each.calls for each in asked), "merged calls are what this is about"


@pytest.mark.slow
def test_a_difference_is_found(exported, tmp_path):
    served, base, model, _ = exported
    found, (name, *_) = Comparisons(), model.expected[SERVING_DEFAULT][0]
    off = [{name: values.copy() for name, values in each.items()} for each in model.expected[SERVING_DEFAULT]]
    off[5][name].flat[0] += 1e-4
    with serve("embedded", served, base, tmp_path) as server:
        list(compare("embedded", server, model._replace(expected=model.expected | {SERVING_DEFAULT: off}), found))
    unequal = {(each.signature, each.output) for each in found.all() if not each.equal}
    assert unequal == {(SERVING_DEFAULT, name)}


def test_requests_are_filled_up_with_their_first_value_and_merged():
    requests = [
        {"n": np.array([1], np.int32), "x": np.array([[7]]), "sums": np.ones((1, 2, 2))},
        {"n": np.array([3], np.int32), "x": np.array([[4, 5, 6]]), "sums": np.zeros((1, 2, 2))},
    ]
    shapes = {"n": (), "x": (None,), "sums": (2, 2)}
    wider = [call.tensors["x"].tolist() for call in widened(requests, shapes)]
    assert wider == [[[7, 7]], [[4, 5, 6, 4, 4]]]
    assert [call.tensors["x"].tolist() for call in alike(requests, shapes)] == [[[7, 7, 7]], [[4, 5, 6]]]
    assert all(call.tensors["sums"].shape == (1, 2, 2) for call in widened(requests, shapes))
    (call,) = together(requests, shapes)
    assert call.tensors["x"].tolist() == [[7, 7, 7], [4, 5, 6]] and call.parts == ((0, 0, 1), (1, 1, 1))


def test_an_answer_is_cut_to_each_request_s_own_part():
    expected = [{"y": np.array([[1.0]])}, {"y": np.array([[2.0, 3.0]])}]
    call = Call({}, ((0, 0, 1), (1, 1, 1)))
    for answer in ({"y": np.array([[1.0, 9.0], [2.0, 3.0]])}, {"": [[1.0, 9.0], [2.0, 3.0]]}):
        parts = [part["y"].tolist() for _, part in answers_of(call, answer, expected)]
        assert parts == [[[1.0]], [[2.0, 3.0]]]
