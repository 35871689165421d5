"""A naive ingest: the log contract kept row by row, in plain Python, to judge `features/ingest` by.

It shares the configuration and the spec with Clickmill and nothing else: no vectorised step, no shard, no Beam.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from typing import Any

from features.ingest.config import IngestConfig
from features.spec import Feature, FeatureSpec
from tests.drills.ingest.naive_ingest.tables import Letter, Log, Row
from tests.drills.ingest.naive_ingest.values import SCALARS, uniform

DAY = 86_400_000
FIELDS = ("rows_in", "kept", "duplicates", "dead_letters", "immature", "late", "ignored", "merged", "differing")


@dataclasses.dataclass
class Naive:
    """What a log becomes.

    Attributes:
      tables: {table: Counter of `FIELDS`}.
      letters: every dead letter.
      requests: {request id: what its row of the examples must hold, `history` and `split` beside it}.
      behaviors: {user: [(time, values by name)]}, in the order of the behaviour log.
      unknown_items, unknown_users: of kept impressions and requests.
      plan: `end_of_log`, `mature_until`, `eval_start`, `test_start`.
    """

    tables: dict[str, Counter]
    letters: list[Letter]
    requests: dict[str, dict[str, Any]]
    behaviors: dict[Any, list[tuple[int, dict[str, Any]]]]
    unknown_items: int
    unknown_users: int
    plan: dict[str, int | None]


def naive_ingest(config: IngestConfig, spec: FeatureSpec) -> Naive:
    """Ingests a log whose tables are local files."""
    return _Ingest(config, spec).run()


class _Ingest:
    def __init__(self, config: IngestConfig, spec: FeatureSpec):
        self.config, self.spec = config, spec
        self.log = Log.read(config, spec)
        self.labels = config.label_configs(spec)
        self.window = max(config.window_ms(label) for label in self.labels)
        self.letters: list[Letter] = []
        self.counts: dict[str, Counter] = {table: Counter() for table in config.tables.given()}

    def die(self, row: Row, reason: str) -> None:
        self.letters.append(Letter(row.table, reason, row.file, row.line))

    def good(self, table: str) -> list[Row]:
        """Returns the good rows of a table; the others become dead letters."""
        rows = []
        for found in self.log.rows(table):
            self.counts[table]["rows_in"] += 1
            if isinstance(found, Letter):
                self.letters.append(found)
            else:
                rows.append(found)
        return rows

    def run(self) -> Naive:
        impressions = self.good("impressions")
        end = self.config.end_of_log
        end = end_of_log([row["timestamp"] for row in impressions], self.window) if end is None else end
        shown = self.requests_of(impressions, end)
        young: set[str] = set()
        until = None
        if self.config.tables.clicks is not None and self.config.label_maturity and end is not None:
            until = end - self.window
            young = {request for request, rows in shown.items() if min(r["timestamp"] for r in rows) > until}
        unique = {request: self.deduplicate(rows) for request, rows in shown.items()}
        for request, rows in unique.items():
            self.counts["impressions"]["immature" if request in young else "kept"] += len(rows)
        clicks = self.attribute(unique, young, end)
        kept = {request: rows for request, rows in unique.items() if request not in young}
        times = {request: min(row["timestamp"] for row in shown[request]) for request in kept}
        plan = {"end_of_log": end, "mature_until": until, **self.cuts(list(times.values()))}

        items, users = self.side_table("items", "item_id"), self.side_table("users", "user_id")
        behaviors = self.behaviors(kept, clicks, items)
        requests = {
            request: self.request(request, rows, times[request], clicks, plan, items, users, behaviors)
            for request, rows in kept.items()
        }
        for table, counts in self.counts.items():
            counts["dead_letters"] = sum(letter.table == table for letter in self.letters)
        unknown_items = sum(row["item_id"] not in items for rows in kept.values() for row in rows)
        unknown_users = sum(found["user_id"] not in users for found in requests.values())
        return Naive(
            self.counts,
            self.letters,
            requests,
            behaviors,
            unknown_items if self.config.tables.items is not None else 0,
            unknown_users if self.config.tables.users is not None else 0,
            plan,
        )

    def requests_of(self, impressions: list[Row], end: int | None) -> dict[str, list[Row]]:
        """Returns the impressions by request, without those of the future and of requests in conflict."""
        requests: dict[str, list[Row]] = defaultdict(list)
        self.conflicts: set[str] = set()
        for row in impressions:
            if end is not None and row["timestamp"] > end:
                self.die(row, "in_the_future")
            else:
                requests[row["request_id"]].append(row)
        for request, rows in list(requests.items()):
            moments = [row["timestamp"] for row in rows]
            if len({row["user_id"] for row in rows}) > 1 or max(moments) - min(moments) > 2 * DAY:
                self.conflicts.add(request)
                for row in requests.pop(request):
                    self.die(row, "request_conflict")
            elif "position" in rows[0].values and any(row["position"] is not None for row in rows):
                for row in rows:
                    if row["position"] is None:
                        self.die(row, "bad_position")
                requests[request] = [row for row in rows if row["position"] is not None]
        return requests

    def deduplicate(self, rows: list[Row]) -> list[Row]:
        """Returns the rows of a request that stay, with the largest labels of those that repeat them."""
        by_item: dict[Any, list[Row]] = defaultdict(list)
        for row in rows:
            by_item[row["item_id"]].append(row)
        stay = []
        for same in by_item.values():
            same.sort(key=lambda row: (row["timestamp"], row.order))
            first, *others = same
            for other in others:
                self.counts["impressions"]["duplicates"] += 1
                differing = {name for name, value in other.values.items() if value != first[name]}
                if differing and all(name.startswith(("label ", "value ")) for name in differing):
                    self.counts["impressions"]["merged"] += 1
                elif differing:
                    self.counts["impressions"]["differing"] += 1
            labels = {name: max(row[name] for row in same) for name in first.values if name.startswith("label ")}
            stay.append(dataclasses.replace(first, values=first.values | labels))
        return sorted(stay, key=lambda row: row.order)

    def attribute(self, unique: dict[str, list[Row]], young: set[str], end: int | None) -> dict[tuple, Row]:
        """Returns the click that counts, by (request, item, label)."""
        found: dict[tuple, Row] = {}
        if self.config.tables.clicks is None:
            return found
        counts = self.counts["clicks"]
        by_column = {label.column: label for label in self.labels}
        shown = {(request, row["item_id"]): row for request, rows in unique.items() for row in rows}
        inside = []
        for click in self.good("clicks"):
            label = by_column.get(click.values.get("label", self.labels[0].column))
            request, delay = click["request_id"], 0
            impression = shown.get((request, click["item_id"]))
            if impression is not None:
                delay = click["timestamp"] - impression["timestamp"]
            if label is None:
                counts["ignored"] += 1
            elif end is not None and click["timestamp"] > end + self.window:
                self.die(click, "in_the_future")
            elif request in self.conflicts:
                self.die(click, "request_conflict")
            elif request not in unique:
                self.die(click, "unknown_request")
            elif impression is None:
                self.die(click, "unknown_impression")
            elif request in young:
                counts["immature"] += 1
            elif delay < 0:
                self.die(click, "click_before_impression")
            elif delay > self.config.window_ms(label):
                counts["late"] += 1
            else:
                inside.append((click["timestamp"], click.order, label.name, click))
        for _, _, name, click in sorted(inside, key=lambda each: each[:2]):
            slot = click["request_id"], click["item_id"], name
            counts["duplicates" if slot in found else "kept"] += 1
            found.setdefault(slot, click)
        return found

    def side_table(self, table: str, key: str) -> dict[Any, Row]:
        found: dict[Any, Row] = {}
        for row in self.good(table) if table in self.counts else ():
            self.counts[table]["duplicates" if row[key] in found else "kept"] += 1
            found.setdefault(row[key], row)
        return found

    def cuts(self, times: list[int]) -> dict[str, int | None]:
        """Returns the first instants of eval and of test, where the split is by time."""
        split = self.config.split
        if split.by != "time":
            return {"eval_start": None, "test_start": None}
        if split.train_until is not None:
            return {"eval_start": split.train_until, "test_start": split.eval_until}
        return {
            "eval_start": quantile(times, 1 - split.eval_fraction - split.test_fraction),
            "test_start": quantile(times, 1 - split.test_fraction),
        }

    def split_of(self, request: str, rows: list[Row], time: int, plan: dict[str, int | None]) -> str:
        split = self.config.split
        if split.by == "column":
            return min(rows, key=lambda row: row.order)["split"]
        if split.by == "random":
            place, test = uniform(request, split.seed), 1 - split.test_fraction
            return "test" if place >= test else "eval" if place >= test - split.eval_fraction else "train"
        if plan["test_start"] is not None and time >= plan["test_start"]:
            return "test"
        return "eval" if plan["eval_start"] is not None and time >= plan["eval_start"] else "train"

    def behaviors(
        self, kept: dict[str, list[Row]], clicks: dict[tuple, Row], items: dict[Any, Row]
    ) -> dict[Any, list[tuple[int, dict[str, Any]]]]:
        """Returns what each user did: what the table says, else the positive impressions."""
        found: dict[Any, list] = defaultdict(list)
        main = self.labels[0].name
        if self.config.tables.behaviors is not None:
            for row in self.good("behaviors"):
                self.counts["behaviors"]["kept"] += 1
                found[row["user_id"]].append((row["timestamp"], row.order, row))
        else:
            for request, rows in kept.items():
                for row in rows:
                    click = clicks.get((request, row["item_id"], main))
                    if self.config.tables.clicks is None and row[f"label {main}"] > 0:
                        found[row["user_id"]].append((row["timestamp"], row.order, row))
                    elif click is not None:
                        found[row["user_id"]].append((click["timestamp"], row.order, row))
        log = {}
        for user, each in found.items():
            each.sort(key=lambda entry: entry[:2])
            log[user] = [(time, self.behavior(row, items)) for time, _, row in each]
        return log

    def behavior(self, row: Row, items: dict[Any, Row]) -> dict[str, Any]:
        values = {"item_id": row["item_id"]}
        for name in self.spec.history.features if self.spec.history else ():
            values[name] = self.feature(self.spec[name], row, items, {})
        if "action" in row.values:
            values["action"] = row["action"]
        return values

    def feature(self, feature: Feature, row: Row, items: dict[Any, Row], users: dict[Any, Row]) -> Any:
        """Returns a feature's value for an impression or a behaviour."""
        if feature.column in ("request_id", "timestamp", "user_id", "item_id"):
            return SCALARS[feature.dtype](row[feature.column])
        if feature.table == "impressions":
            return row[f"feature {feature.name}"]
        side, key = (items, "item_id") if feature.table == "items" else (users, "user_id")
        found = side.get(row[key])
        return None if found is None else found[f"feature {feature.name}"]

    def request(
        self,
        request: str,
        rows: list[Row],
        time: int,
        clicks: dict[tuple, Row],
        plan: dict[str, int | None],
        items: dict[Any, Row],
        users: dict[Any, Row],
        behaviors: dict[Any, list[tuple[int, dict[str, Any]]]],
    ) -> dict[str, Any]:
        logged = rows[0].values.get("position") is not None
        split = self.split_of(request, rows, time, plan)
        if logged:
            rows = sorted(rows, key=lambda row: (row["position"], row.order))
        user = rows[0]["user_id"]
        found: dict[str, Any] = {
            "split": split,
            "timestamp": time,
            "user_id": user,
            "item_id": [row["item_id"] for row in rows],
            "position": [row["position"] for row in rows] if logged else list(range(len(rows))),
            "history": [each for each in behaviors.get(user, []) if each[0] < time],
        }
        if "propensity" in rows[0].values:
            found["propensity"] = [row["propensity"] for row in rows]
        for label in self.labels:
            if self.config.tables.clicks is None:
                found[label.name] = [row[f"label {label.name}"] for row in rows]
                continue
            counting = [clicks.get((request, row["item_id"], label.name)) for row in rows]
            found[label.name] = [float(click is not None) for click in counting]
            if label.value is not None:
                found[label.value_name] = [None if c is None else c[f"value {label.name}"] for c in counting]
        for feature in self.spec.features:
            if feature.name in ("user_id", "item_id"):
                continue
            if feature.scope == "candidate":
                found[feature.name] = [self.feature(feature, row, items, users) for row in rows]
            else:
                found[feature.name] = self.feature(feature, rows[0], items, users)
        return found


def end_of_log(times: list[int], window: int) -> int | None:
    """Returns the latest time, without those few that lie far apart from all earlier ones."""
    times = sorted(times)
    if len(times) < 10:
        return times[-1] if times else None
    few = max(1, len(times) // 100)
    far = max(DAY, window, (times[-1 - few] - times[few]) // 50)
    for place in range(len(times) - 1 - few, len(times) - 1):
        if times[place + 1] - times[place] > far:
            return times[place]
    return times[-1]


def quantile(times: list[int], fraction: float) -> int | None:
    """Returns the time before which this share of all lies, rounded up to whole requests."""
    times = sorted(times)
    if not times:
        return None
    below = sum(1 for n in range(len(times)) if n < len(times) * fraction - 1e-9)
    return times[below] if below < len(times) else times[-1] + 1
