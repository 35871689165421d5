"""The sums of a replay as bytes, to keep them, to send them, and to merge them later.

The bytes are one Arrow record, its columns in order and compressed, so that equal sums have equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from evaluation.metrics.rows import Array
from evaluation.replay.diagnostics.strata import StrataSums
from evaluation.replay.sums import SumTable, UserSums
from evaluation.replay.verdicts.replay_report import ReplaySums
from features.errors import InputError

FORMAT = "clickmill replay sums 1"
_STRATA = "strata/"


def to_bytes(found: ReplaySums) -> bytes:
    """Returns sums as bytes: equal bytes of equal sums, by whatever parts and steps they were merged."""
    sums = found.sums
    tables = {"users": sums.by_user} | ({"slots": sums.by_slot} if sums.by_slot else {})
    tables |= {f"{_STRATA}{kind}": strata.table for kind, strata in found.strata.items()}
    columns = {f"largest/{policy}": largest for policy, largest in sums.largest.items()}
    for name, table in tables.items():
        columns |= {f"{name}/user": table.user, f"{name}/slot": table.slot}
        columns |= {f"{name}:{column}": limbs.ravel() for column, limbs in table.columns.items()}
    noted = {
        "format": FORMAT,
        "tables": list(tables),
        "policies": sorted(sums.policies),
        "reward_range": [each.hex() for each in sums.reward_range],
        "estimators": list(found.estimators),
        "propensity_kind": found.propensity_kind,
        "excluded": dict(found.excluded),
        "stratum_names": {kind: sorted(names.items()) for kind, names in found.stratum_names.items()},
    }
    return _record(columns, json.dumps(noted, sort_keys=True))


def from_bytes(content: bytes, source: str = "the bytes") -> ReplaySums:
    """Returns the sums that `to_bytes` made these bytes of.

    Raises:
      InputError: for other bytes; `source` says which.
    """
    try:
        with pa.ipc.open_file(pa.BufferReader(content)) as file:
            record, noted = file.get_batch(0), json.loads(file.schema.metadata[b"sums"])
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError):
        noted = {}
    if noted.get("format") != FORMAT:
        raise InputError(f"{source}: not the sums of a replay by this version. Sum the log again.")
    columns = {name: np.array(column[0].values) for name, column in zip(record.schema.names, record, strict=True)}
    tables = {name: _table(name, columns) for name in noted["tables"]}
    policies = tuple(noted["policies"])
    low, high = (float.fromhex(each) for each in noted["reward_range"])
    largest = {policy: columns[f"largest/{policy}"] for policy in policies}
    return ReplaySums(
        UserSums(policies, tables["users"], tables.get("slots"), largest, (low, high)),
        {name.removeprefix(_STRATA): StrataSums(each) for name, each in tables.items() if name.startswith(_STRATA)},
        tuple(noted["estimators"]),
        noted["propensity_kind"],
        noted["excluded"],
        {kind: dict(names) for kind, names in noted["stratum_names"].items()},
    )


def _record(columns: Mapping[str, Array], noted: str) -> bytes:
    """One record, each column a list in its one cell."""
    ordered = {name: columns[name] for name in sorted(columns)}
    cells = [
        pa.LargeListArray.from_arrays(pa.array([0, len(each)], pa.int64()), pa.array(each)) for each in ordered.values()
    ]
    schema = pa.schema([pa.field(name, each.type) for name, each in zip(ordered, cells, strict=True)], {"sums": noted})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch(cells, schema=schema))
    return bytes(sink.getvalue())


def _table(name: str, columns: Mapping[str, Array]) -> SumTable:
    head = f"{name}:"
    limbs = {each[len(head) :]: column.reshape(3, -1) for each, column in columns.items() if each.startswith(head)}
    return SumTable(columns[f"{name}/user"], columns[f"{name}/slot"], limbs)
