"""A small BSE store of random histories, for tests."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa

from features.histories.bucket_table import BucketTable
from features.items.simhash import SimHash
from serving.user_stores.bse.build import StoreBuilder
from serving.user_stores.bse.record import RecordLayout

DIM = 8
LAYOUT = RecordLayout(16, 8, DIM)


def behaviors(user: int, length: int = 20):
    """A user's behaviours: [length, d] values and their [length, G] signatures."""
    values = np.random.default_rng(user).normal(size=(length, DIM)).astype(np.float32)
    return values, SimHash(DIM).signatures(values)


@functools.cache
def table_of(user: int, length: int = 20) -> BucketTable:
    return BucketTable.build(*behaviors(user, length), 8)


def write(builder: StoreBuilder, users, ids=None) -> None:
    tables = [table_of(user) for user in users]
    ids = pa.array(list(users)) if ids is None else ids
    builder.writer.write(ids, np.stack([t.sums for t in tables]), np.stack([t.counts for t in tables]))


def build(root, version="v1", users=range(50), ids=None, layout=LAYOUT, **details) -> None:
    with StoreBuilder(root, version, layout) as builder:
        write(builder, users, ids)
        builder.publish(details)


def same(one: BucketTable, other: BucketTable) -> bool:
    return np.array_equal(one.sums, other.sums) and np.array_equal(one.counts, other.counts)
