"""What a training leaves for the next one to begin with: weights, the optimiser's state, and the encoding behind them.

training_state/state.json            what it is of
training_state/weights.npz           variables by their path in the model, slots as <slot>:<path>
training_state/encoding/             the feature encoding
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from features import storage
from features.config import Strict
from features.encoding.feature_encoding import FeatureEncoding
from features.errors import NotFoundError
from models.embedding import FeatureEmbedding
from models.masked_embedding import MaskedFeatureEmbedding

STATE_DIR = "training_state"
STATE_FILE = "state.json"
_WEIGHTS, _ENCODING = "weights.npz", "encoding"


class Layout(Strict):
    """Which rows of the variables of a `FeatureEmbedding` are whose, by the variables' paths.

    Attributes:
      table: of the table; '' where no feature has ids.
      first: the first row of each feature in it.
      numbers, defaults: path and features, in the order of the rows, of the vectors of numeric features and of the
        default embeddings; an empty path where there are none.
      fields: the names of all fields, in their order.
    """

    table: str = ""
    first: dict[str, int] = {}
    numbers: tuple[str, tuple[str, ...]] = ("", ())
    defaults: tuple[str, tuple[str, ...]] = ("", ())
    fields: tuple[str, ...] = ()


class StateFacts(Strict):
    """What a training state is of.

    Attributes:
      kind: of the model.
      examples: the folder of the examples that it was trained on.
      span: their newest day as 20261124; 0: they have none.
      optimizer: the class of the optimiser.
      iterations: the steps that it took.
      layouts: of the model's embeddings, in the order of their paths.
    """

    kind: str
    examples: str
    span: int = 0
    optimizer: str
    iterations: int
    layouts: tuple[Layout, ...]


@dataclass(frozen=True)
class TrainingState:
    """A training state that was read.

    Attributes:
      directory: where it lies.
      facts: what it is of.
      encoding: of its features.
      arrays: variables and slots by their names in `weights.npz`.
    """

    directory: str
    facts: StateFacts
    encoding: FeatureEncoding
    arrays: dict[str, np.ndarray]


def save_state(
    model: tf.keras.Model, encoding: FeatureEncoding, directory: storage.AnyPath, *, kind: str, examples: str, span: int
) -> StateFacts:
    """Writes the state of a trained model; `state.json` comes last, so that it stands for a complete one.

    Args:
      model: trained; compiled, or its optimiser's state is left out.
      encoding: that it was trained with.
      directory: where to.
      kind, examples, span: as of `StateFacts`.
    """
    variables, optimizer = named_variables(model), getattr(model, "optimizer", None)
    arrays = {name: variable.numpy() for name, variable in variables.items()}
    for slot in optimizer.get_slot_names() if optimizer is not None else ():
        arrays |= {f"{slot}:{name}": optimizer.get_slot(each, slot).numpy() for name, each in variables.items()}
    encoding.save(storage.join(directory, _ENCODING))
    with storage.writing(storage.join(directory, _WEIGHTS)) as file:
        np.savez(file, **arrays)
    facts = StateFacts(
        kind=kind,
        examples=examples,
        span=span,
        optimizer="" if optimizer is None else type(optimizer).__name__,
        iterations=0 if optimizer is None else int(optimizer.iterations),
        layouts=tuple(layouts_of(model)),
    )
    storage.write_text(storage.join(directory, STATE_FILE), facts.model_dump_json(indent=2) + "\n")
    return facts


def read_facts(directory: storage.AnyPath) -> StateFacts:
    """Reads what a training state is of. Raises `NotFoundError` if there is none."""
    path = storage.join(directory, STATE_FILE)
    if not storage.is_file(path):
        raise NotFoundError(f"{directory} holds no {STATE_FILE}: it is no training state, or was deleted.")
    return StateFacts.model_validate_json(storage.read_text(path))


def load_state(directory: storage.AnyPath) -> TrainingState:
    """Reads a training state. Raises `NotFoundError` if there is none."""
    facts = read_facts(directory)
    with storage.local_copy(storage.join(directory, _WEIGHTS)) as local, np.load(local) as found:
        arrays = {name: found[name] for name in found.files}
    encoding = FeatureEncoding.load(storage.join(directory, _ENCODING))
    return TrainingState(storage.join(directory), facts, encoding, arrays)


def named_variables(model: tf.keras.Model) -> dict[str, tf.Variable]:
    """Returns the trainable variables by their shortest path in the model, the attributes that lead to each.

    Keras' own names count up over a process, and two layers may share one: what a training leaves must be found again
    in another process.
    """
    wanted = {id(variable) for variable in model.trainable_variables}
    found, seen, queue = {}, {id(model)}, deque([("", model)])
    while queue:
        path, node = queue.popleft()
        for name, child in _children(node):
            if id(child) in seen:
                continue
            seen.add(id(child))
            if id(child) in wanted:
                found[f"{path}{name}"] = child
            else:
                queue.append((f"{path}{name}/", child))
    return found


def _children(node: object) -> Iterator[tuple[str, object]]:
    """What hangs on a node by name; Keras' numbering of layers, `layer-0`, comes after the attributes."""
    with contextlib.suppress(AttributeError, TypeError):  # What is no trackable of TensorFlow has no children.
        children = tf.train.TrackableView.children(node)
        yield from sorted(children.items(), key=lambda each: (each[0].startswith("layer"), each[0]))


def layouts_of(model: tf.keras.Model) -> list[Layout]:
    """Returns the layouts of the model's embeddings, in the order of their paths."""
    paths = {id(variable): name for name, variable in named_variables(model).items()}
    embeddings = [part for part in model.submodules if isinstance(part, FeatureEmbedding)]
    found = [_layout(embedding, paths) for embedding in embeddings]
    return sorted(found, key=lambda layout: (layout.table, layout.numbers))


def _layout(embedding: FeatureEmbedding, paths: dict[int, str]) -> Layout:
    def path(attribute: str) -> str:
        return paths.get(id(getattr(embedding, attribute, None)), "")

    items = embedding.item_features if isinstance(embedding, MaskedFeatureEmbedding) else ()
    return Layout(
        table=path("table"),
        first=embedding.first_rows,
        numbers=(path("numeric_vectors"), embedding.numeric_features),
        defaults=(path("defaults"), items),
        fields=embedding.field_names,
    )
