"""The names of columns between the log and the gradient, declared once.

Raw examples hold keys, labels and features side by side. Encoded examples hold features under their own names and all
else under a `_`, with which no feature's name begins. A batch holds features apart, so that its other names need none.

    the log, raw examples    encoded examples       a batch
    click (the spec's)       _label_click           label        what the model learns
    click_value              _value_click                        how much the click was worth, where the log tells
    item_id                  _item_id, _item_row    item_row     which item: its id, its row in the catalogue
"""

from __future__ import annotations

from collections.abc import Collection

#: Columns of raw examples that are neither features nor labels; encoded ones hold them unchanged.
KEYS = ("request_id", "user_id", "item_id", "timestamp", "history_end", "user_index", "position", "propensity")

_LABEL, _VALUE = "_label_", "_value_"
_OF_VALUE = "_value"


def key_column(key: str) -> str:
    """Returns the encoded column of a key."""
    return f"_{key}"


def label_column(label: str) -> str:
    """Returns the encoded column of a label."""
    return f"{_LABEL}{label}"


def is_label_column(name: str) -> bool:
    """Whether an encoded column holds a label."""
    return name.startswith(_LABEL)


def raw_value_column(label: str) -> str:
    """Returns the column of raw examples that holds the values of a label's clicks."""
    return f"{label}{_OF_VALUE}"


def encoded_column(name: str, columns: Collection[str]) -> str:
    """Returns the encoded column of a label, or of a label's values.

    Args:
      name: a column of raw examples that is neither a key nor a feature.
      columns: all columns of the raw examples.
    """
    label = name.removesuffix(_OF_VALUE)
    return f"{_VALUE}{label}" if label != name and label in columns else label_column(name)


def is_value_column(name: str) -> bool:
    """Whether an encoded column holds the values of a label's clicks."""
    return name.startswith(_VALUE)


#: Encoded keys: of requests where their history ends, of candidates the id and the position.
USER_INDEX, HISTORY_END = key_column("user_index"), key_column("history_end")
ITEM_ID, POSITION = key_column("item_id"), key_column("position")

#: UTC milliseconds, of requests and of behaviours.
TIMESTAMP = key_column("timestamp")

#: Rows of the catalogue (`features.items.catalogue`), 0 where it does not hold an item: of candidates and behaviours.
ITEM_ROW = "_item_row"

#: In a batch, what a candidate's label and its row of the catalogue are called.
BATCH_LABEL, BATCH_ITEM_ROW = "label", "item_row"

#: In a batch's windows, beside the history features: how long ago a behaviour was (`features.histories.time_gaps`).
BATCH_TIME_GAP = "_time_gap"

#: Of candidates of coarse examples: float32 weight, int32 source, float32 logit of the fine ranker.
WEIGHT, SOURCE, TEACHER_LOGIT = "_weight", "_source", "_teacher_logit"
