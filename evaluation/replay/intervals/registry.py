"""The tiers of intervals by name: a new one is a class (`evaluation.replay.intervals.interval`) and a row here."""

from __future__ import annotations

from evaluation.replay.intervals.confidence_sequence import ConfidenceSequence
from evaluation.replay.intervals.cressie_read import CressieRead
from evaluation.replay.intervals.interval import Interval
from evaluation.replay.intervals.linearised import Linearised

INTERVALS: dict[str, type[Interval]] = {each.name: each for each in (Linearised, CressieRead, ConfidenceSequence)}
"""Name → class."""
