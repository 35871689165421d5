"""Where the training state of a pushed model lies, and which one a training begins with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from features import storage
from features.config import Strict
from features.errors import NotFoundError
from pipeline.release.anchor import pushed_versions

#: In an export: a `StatePointer`.
POINTER_FILE = "assets.extra/training_state.json"


class StatePointer(Strict):
    """What an export says of the training that it came from.

    Attributes:
      directory: of the training state, in the artifacts of the run.
      examples: that it was trained on.
      span: their newest day as 20261124; 0: they have none.
    """

    directory: str
    examples: str
    span: int = 0

    def save(self, saved_model: storage.AnyPath) -> None:
        """Writes it into an export."""
        storage.write_text(storage.join(saved_model, POINTER_FILE), self.model_dump_json(indent=2) + "\n")


def find_state(push_dir: storage.AnyPath, examples: str, span: int) -> str | None:
    """Returns the training state of the pushed version that a training begins with; None if there is none.

    It is that of the last day before its own, of several of a day the latest; a day that is run again begins where it
    began, and one that is run late does not set later ones back. Without days it is the latest on other examples.

    Args:
      push_dir: the folder of a model's pushed versions.
      examples: that are trained on.
      span: their newest day as 20261124; 0: they have none.
    """
    found = []
    for version in pushed_versions(push_dir):
        with contextlib.suppress(FileNotFoundError):
            pointer = StatePointer.model_validate_json(storage.read_text(storage.join(version, POINTER_FILE)))
            there = storage.is_file(storage.join(pointer.directory, "state.json"))
            earlier = pointer.span < span if span and pointer.span else pointer.examples != examples
            if there and earlier:
                found.append(pointer)
    # Of equal ones the first, which was pushed last.
    return max(found, key=lambda pointer: pointer.span).directory if found else None


def encoding_of_state(directory: storage.AnyPath) -> str:
    """Returns where the feature encoding of a training state lies."""
    return storage.join(directory, "encoding")


def starter(settings: dict, encoding, run_dir: storage.AnyPath) -> Callable | None:
    """Returns what gives the model of a Trainer its first weights; None where it is not asked for.

    What became of each row and variable is written into `run_dir` and said on the terminal.

    Args:
      settings: of the Trainer, with `warm_from`, the state that its driver found.
      encoding: the feature encoding.
      run_dir: of the model run.
    """
    from models.training.config import TrainingConfig
    from models.warm_start.carry import WarmStartReport

    training = TrainingConfig.model_validate(settings["training"])
    if training.warm_start is None:
        return None

    def start(model) -> None:
        from models.warm_start.start import warm_start
        from models.warm_start.training_state import load_state

        try:
            if not settings.get("warm_from"):
                raise NotFoundError("no model was pushed before whose training state is there")
            optimizer = training.optimizer if training.warm_start.optimizer else None
            report = warm_start(model, encoding, settings["kind"], load_state(settings["warm_from"]), optimizer)
        except NotFoundError as error:
            report = WarmStartReport(cold=str(error))
        report.save(run_dir, encoding)
        print(report.summary, flush=True)

    return start


def leave_state(model, encoding, settings: dict, run_dir: storage.AnyPath, saved_model: storage.AnyPath) -> None:
    """Writes the training state of a trained model into its run, and into its export where that lies.

    Args:
      model: trained.
      encoding: the feature encoding.
      settings: of the Trainer, with `examples` and `span`.
      run_dir: of the model run.
      saved_model: the export.
    """
    from models.warm_start.training_state import STATE_DIR, save_state

    directory = storage.join(storage.absolute(run_dir), STATE_DIR)
    facts = save_state(
        model, encoding, directory, kind=settings["kind"], examples=settings["examples"], span=settings["span"]
    )
    StatePointer(directory=directory, examples=facts.examples, span=facts.span).save(saved_model)
