"""The estimators as loops over rows and requests, by the equations of docs/reference/replay/estimators.md."""

from collections import defaultdict

import numpy as np


def rows_of(log, policy="target"):
    """The rows of a log for one policy, each a dictionary."""
    names = ("q_logged", "q_expected", "cluster_weights", "balanced_weights", "cascade_weights", "placements")
    rows = []
    for i in range(len(log)):
        row = {"r": log.reward[i], "w": log.weights[policy][i], "slot": log.slot[i], "request": log.request[i]}
        row |= {name: getattr(log, name)[policy][i] for name in names}
        row |= {"pi": log.weights[policy][i] * log.propensity[i], "placed": log.logger_placements[i]}
        row |= {"behavior": None if log.behavior is None else log.behavior[i], "seen": log.examination}
        rows.append(row)
    return rows


def mean(weight):
    def value(rows, parameter):
        return sum(weight(row, parameter) * row["r"] for row in rows) / len(rows)

    return value


def normalised(weight):
    def value(rows, parameter):
        return sum(weight(row, parameter) * row["r"] for row in rows) / sum(weight(row, parameter) for row in rows)

    return value


def robust(weight, normalise=False):
    def value(rows, parameter):
        over = sum(weight(row, parameter) for row in rows) if normalise else len(rows)
        correction = sum(weight(row, parameter) * (row["r"] - row["q_logged"]) for row in rows) / over
        return sum(row["q_expected"] for row in rows) / len(rows) + correction

    return value


def lists_of(rows):
    found = defaultdict(list)
    for row in rows:
        found[row["request"]].append(row)
    return list(found.values())


def by_list(value_of):
    def value(rows, parameter):
        values = [value_of(each, parameter) for each in lists_of(rows)]
        return sum(values) / len(values)

    return value


def by_slot(weight):
    def value(rows, _):
        total = 0.0
        for slot in {row["slot"] for row in rows}:
            there = [row for row in rows if row["slot"] == slot]
            average = sum(row[weight] for row in there) / len(there)
            total += sum(row[weight] * row["r"] / average for row in there)
        return total / len(lists_of(rows))

    return value


def cascade_dr(rows, _):
    total, above = 0.0, 1.0
    for row in rows:
        total += row["cascade_weights"] * (row["r"] - row["q_logged"]) + above * row["q_expected"]
        above = row["cascade_weights"]
    return total


def pseudo_inverse(rows, _=None):
    return (1 + sum(row["w"] - 1 for row in rows)) * sum(row["r"] for row in rows)


def controlled(rows, _):
    lists = lists_of(rows)
    weights = [1 + sum(row["w"] - 1 for row in each) for each in lists]
    values = [pseudo_inverse(each) for each in lists]
    slope = np.cov(values, weights)[0, 1] / np.var(weights, ddof=1)
    return np.mean(values) - slope * (np.mean(weights) - 1)


def adaptive(rows, _):
    weights = {0: lambda row: row["w"], 1: lambda row: row["cascade_weights"]}
    weights[2] = lambda row: rows[-1]["cascade_weights"]
    return sum(weights[row["behavior"]](row) * row["r"] for row in rows)


def position_based(row):
    return sum(t * p for t, p in zip(row["seen"], row["placements"], strict=True)) / sum(
        t * p for t, p in zip(row["seen"], row["placed"], strict=True)
    )


def interpolated(row, window):
    total, slots = 0.0, range(len(row["seen"]))
    for k in slots:
        if abs(k - row["slot"]) <= window:
            near = [j for j in slots if abs(j - k) <= window]
            total += row["seen"][k] * row["placements"][k] / sum(row["seen"][j] * row["placed"][j] for j in near)
    return total


def sub_gaussian(row, strength):
    return row["w"] / (1 - strength + strength * row["w"])


REFERENCES = {
    "replay": normalised(lambda row, _: float(abs(row["pi"] - 1) < 1e-6)),
    "ips": mean(lambda row, _: row["w"]),
    "snips": normalised(lambda row, _: row["w"]),
    "clipped_ips": mean(lambda row, limit: min(row["w"], limit)),
    "sub_gaussian_ips": mean(sub_gaussian),
    "balanced_ips": normalised(lambda row, _: row["balanced_weights"]),
    "mips": mean(lambda row, _: row["cluster_weights"]),
    "snmips": normalised(lambda row, _: row["cluster_weights"]),
    "dm": robust(lambda row, _: 0.0),
    "dr": robust(lambda row, _: row["w"]),
    "sndr": robust(lambda row, _: row["w"], normalise=True),
    "switch_dr": robust(lambda row, limit: row["w"] if row["w"] <= limit else 0.0),
    "shrunk_dr": robust(lambda row, strength: strength * row["w"] / (row["w"] ** 2 + strength)),
    "clipped_dr": robust(lambda row, limit: min(row["w"], limit)),
    "sub_gaussian_dr": robust(sub_gaussian),
    "sips": by_list(lambda rows, _: rows[-1]["cascade_weights"] * sum(row["r"] for row in rows)),
    "iips": by_list(lambda rows, _: sum(row["w"] * row["r"] for row in rows)),
    "rips": by_list(lambda rows, _: sum(row["cascade_weights"] * row["r"] for row in rows)),
    "snsips": lambda rows, _: (
        sum(each[-1]["cascade_weights"] * sum(row["r"] for row in each) for each in lists_of(rows))
        / sum(each[-1]["cascade_weights"] for each in lists_of(rows))
    ),
    "sniips": by_slot("w"),
    "snrips": by_slot("cascade_weights"),
    "cascade_dr": by_list(cascade_dr),
    "pi": by_list(pseudo_inverse),
    "pi_cv": controlled,
    "adaptive": by_list(adaptive),
    "pbm": by_list(lambda rows, _: sum(position_based(row) * row["r"] for row in rows)),
    "interpol": by_list(lambda rows, window: sum(interpolated(row, window) * row["r"] for row in rows)),
}
