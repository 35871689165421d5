"""A pipeline of two nodes that only end if they run at the same time, and one that waits for both."""

import os
import signal
import time
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Examples, Model

import models  # noqa: F401  (chooses the Keras that TFX's import of TensorFlow then finds)
from features import storage
from tests.pipeline.run.small_pipeline import pipeline_of

PATIENCE_S = 120.0


@component
def Meet(folder: Parameter[str], mine: Parameter[str], other: Parameter[str], examples: OutputArtifact[Examples]):
    """Writes its process once the other one is there; is killed then, if a file says so."""
    Path(folder, mine).touch()
    end = time.monotonic() + PATIENCE_S
    while not Path(folder, other).exists():
        if time.monotonic() > end:
            raise TimeoutError(other)
        time.sleep(0.005)
    print(f"{mine} has met {other}")
    if Path(folder, f"kill {mine}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    examples.set_int_custom_property("met", 1)
    storage.write_text(storage.join(examples.uri, "process"), str(os.getpid()))


@component
def Gather(first: InputArtifact[Examples], second: InputArtifact[Examples], model: OutputArtifact[Model]):
    """Writes what both have left."""
    assert first.get_int_custom_property("met") == second.get_int_custom_property("met") == 1
    both = [storage.read_text(storage.join(examples.uri, "process")) for examples in (first, second)]
    storage.write_text(storage.join(model.uri, "processes"), " ".join(both))


def create_meeting_pipeline(config) -> Pipeline:
    """As `pipeline.pipeline.create_pipeline`."""
    folder = storage.parent(config.run_dir)
    first = Meet(folder=folder, mine="a", other="b").with_id("Meet.a")
    second = Meet(folder=folder, mine="b", other="a").with_id("Meet.b")
    gather = Gather(first=first.outputs["examples"], second=second.outputs["examples"])
    return pipeline_of(config, [first, second, gather])
