"""The log contract: which tables a log has, what each row must hold, and how a bad row is set aside.

`docs/reference/log_contract.md` states it for users.
"""

from __future__ import annotations

import dataclasses
import enum

from features.errors import InputError, RunError

#: Valid timestamps, UTC milliseconds: 1973-03-03 to 2100-01-01. Seconds since 1970 fall below: a common slip.
MIN_TIMESTAMP = 100_000_000_000
MAX_TIMESTAMP = 4_102_444_800_000


class LogContractError(InputError):
    """A log that cannot be read at all: a table or a column is missing. The message says which and what is there."""


class UntrainableLogError(RunError):
    """A log that was read and cannot be trained on. The message says why, with figures and what to do about each."""


class BadRowsError(UntrainableLogError):
    """More rows of a table were bad than `max_bad_row_fraction` allows."""


class Reason(str, enum.Enum):
    """Why a row is a dead letter; of several reasons the one that stands first here.

    The names are stable: dashboards and alerts may rely on them.
    """

    UNPARSABLE_ROW = "unparsable_row"
    NULL_REQUEST_ID = "null_request_id"
    BAD_TIMESTAMP = "bad_timestamp"
    NULL_USER_ID = "null_user_id"
    NULL_ITEM_ID = "null_item_id"
    BAD_POSITION = "bad_position"
    BAD_PROPENSITY = "bad_propensity"
    BAD_LABEL = "bad_label"
    BAD_SPLIT = "bad_split"
    BAD_VALUE = "bad_value"
    IN_THE_FUTURE = "in_the_future"
    REQUEST_CONFLICT = "request_conflict"
    UNKNOWN_REQUEST = "unknown_request"
    UNKNOWN_IMPRESSION = "unknown_impression"
    CLICK_BEFORE_IMPRESSION = "click_before_impression"


@dataclasses.dataclass(frozen=True)
class TableContract:
    """Columns of a log table. `required` must be in the file; `optional` have a meaning where they are present."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


TABLES = {
    table.name: table
    for table in (
        TableContract("impressions", ("request_id", "timestamp", "user_id", "item_id"), ("position", "propensity")),
        TableContract("clicks", ("request_id", "item_id", "timestamp"), ("label",)),
        TableContract("items", ("item_id",)),
        TableContract("users", ("user_id",)),
        TableContract("behaviors", ("user_id", "item_id", "timestamp"), ("action",)),
    )
}
