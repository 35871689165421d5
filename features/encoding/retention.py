"""Terms that a window does not hold and that stay in the vocabulary for a while, so that a warm start finds their rows.

A term that comes back after a quiet week would otherwise begin anew. It stays for `ttl_days` after it was last in a
vocabulary by its own count, if it had been seen often enough; too short a time makes every evaluation of the items that
come and go a lottery, hence the floor is of counts and the time is long.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.feature_encoding import FeatureEncoding
from features.spec import Feature, VocabularyRule

LAST_SEEN, MOST_SEEN = "last_seen", "most_seen"
"""Columns of a vocabulary: the last day on which a term was in it by its own count, and its largest count."""


class Before(NamedTuple):
    """The encoding before, None where there is none, and the day of the new one."""

    encoding: FeatureEncoding | None
    day: datetime.date


def with_terms_before(encoding: FeatureEncoding, before: Before) -> FeatureEncoding:
    """Returns the encoding with the terms of the one before that are to stay, after its own.

    Args:
      encoding: fitted on the window.
      before: what was fitted on an earlier one.
    """
    vocabularies = {}
    for feature in encoding.spec.features:
        rule = feature.vocabulary
        if rule is None or rule.ttl_days is None:
            continue
        old = _vocabulary_before(feature, before.encoding)
        vocabularies[feature.name] = retained(encoding.vocabulary(feature.name), old, rule, before.day)
    return encoding.with_vocabularies(vocabularies)


def _vocabulary_before(feature: Feature, encoding: FeatureEncoding | None) -> pa.Table | None:
    if encoding is None:
        return None
    same = [each for each in encoding.spec.features if (each.name, each.dtype) == (feature.name, feature.dtype)]
    return encoding.vocabulary(feature.name) if same and same[0].vocabulary is not None else None


def retained(new: pa.Table, old: pa.Table | None, rule: VocabularyRule, day: datetime.date) -> pa.Table:
    """Returns a vocabulary of `term`, `count`, `last_seen` and `most_seen`: the new terms, then the old that stay.

    Those that stay have a count of 0; they come by falling `most_seen`, ties by term, as far as `max_size` has room.

    Args:
      new: `term` and `count`.
      old: the vocabulary before, with or without the further columns; None: there is none.
      rule: how long terms stay, and from which count on.
      day: of the new vocabulary.
    """
    own = _dated(new, day)
    if old is None:
        return own
    old = _dated(old, None)
    index = pc.index_in(own["term"].combine_chunks(), value_set=old["term"].combine_chunks())
    known = pc.fill_null(old[MOST_SEEN].combine_chunks().take(index), 0)
    most = np.maximum(own[MOST_SEEN].to_numpy(), known.to_numpy(zero_copy_only=False))
    own = own.set_column(own.column_names.index(MOST_SEEN), MOST_SEEN, pa.array(most))
    gone = pc.invert(pc.is_in(old["term"], value_set=own["term"].combine_chunks()))
    since = pa.scalar(day - datetime.timedelta(days=rule.ttl_days or 0), pa.date32())
    young, known_well = pc.greater_equal(old[LAST_SEEN], since), pc.greater_equal(old[MOST_SEEN], rule.ttl_min_count)
    stay = old.filter(pc.fill_null(pc.and_(gone, pc.and_(young, known_well)), False))
    stay = stay.sort_by([(MOST_SEEN, "descending"), ("term", "ascending")])
    if rule.max_size is not None:
        stay = stay.slice(0, max(0, rule.max_size - own.num_rows))
    stay = stay.set_column(1, "count", pa.array(np.zeros(stay.num_rows, np.int64)))
    return pa.concat_tables([own, stay.cast(own.schema)]).combine_chunks()


def _dated(table: pa.Table, day: datetime.date | None) -> pa.Table:
    """Returns the four columns; of a vocabulary that no day was kept of, its terms have no last day."""
    names = ["term", "count", LAST_SEEN, MOST_SEEN]
    if day is None and LAST_SEEN in table.column_names:
        return table.select(names)
    seen = pa.array([day] * table.num_rows, pa.date32())
    return pa.table([table["term"], table["count"], seen, table["count"]], names=names)
