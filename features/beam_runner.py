"""The local Beam runner, named explicitly.

Beam's `DirectRunner` first tries to download a Prism binary; `FnApiRunner` runs in this process, without a network.
"""

from __future__ import annotations

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


def make_pipeline(options: PipelineOptions | None = None) -> beam.Pipeline:
    """Returns an in-process Beam pipeline; use it as a context manager."""
    return beam.Pipeline(runner=FnApiRunner(), options=options or PipelineOptions([]))
