"""The simulated logs: their contract, their flaws, and the effects planted in them."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from features.datasets.simulator.catalogue import GROUPS
from features.datasets.simulator.log_tables import UNKNOWN_ITEM
from features.datasets.simulator.marketplace import SimulationSummary, SimulatorConfig, simulate
from features.spec import load_spec

REPOSITORY = Path(__file__).resolve().parents[3]
TABLES = ("impressions", "clicks", "items", "users")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """200,000 impressions: directory, summary, tables, and `joined`: truth beside the good impressions."""
    out = tmp_path_factory.mktemp("simulated") / "logs"
    summary = simulate(SimulatorConfig(impressions=200_000, seed=7), out)
    read = {name: pq.read_table(out / name) for name in (*TABLES, "truth")}
    good = read["impressions"].filter(_is_good(read["impressions"], read["items"]))
    key = _keys(good)
    _, first = np.unique(key, return_index=True)
    good = good.take(np.sort(first))
    return {"out": out, "summary": summary, "good": good, **read}


def _is_good(impressions, items):
    known = pc.is_in(impressions["item_id"], value_set=items["item_id"].combine_chunks())
    good = pc.and_(known, pc.is_valid(impressions["user_id"]))
    good = pc.and_(good, pc.greater_equal(impressions["timestamp"], 0))
    return pc.and_(good, pc.less_equal(impressions["propensity"], 1.0))


def _keys(table):
    return np.char.add(
        table["request_id"].to_numpy().astype(str), np.char.add("/", table["item_id"].to_numpy().astype(str))
    )


@pytest.fixture(scope="module")
def flat(world):
    """NumPy columns of every good impression: keys, item and user attributes, truth, clicked."""
    good, truth = world["good"], world["truth"]
    order = np.argsort(_keys(truth))
    at = order[np.searchsorted(_keys(truth)[order], _keys(good))]
    columns = {name: good[name].to_numpy() for name in good.column_names}
    columns |= {name: truth[name].to_numpy()[at] for name in truth.column_names[2:]}
    clicks = world["clicks"].filter(pc.equal(world["clicks"]["label"], "click"))
    columns["clicked"] = np.isin(_keys(good), _keys(clicks))
    items = world["items"].append_column("cluster", _planted(world, "items")["cluster"])
    items = items.append_column("niche", _planted(world, "items")["niche"])
    row = np.searchsorted(items["item_id"].to_numpy(), columns["item_id"])
    for name in ("category", "subcategory", "brand", "price", "cluster", "niche", "release"):
        columns[name] = items[name].to_numpy()[row]
    planted = _planted(world, "users")
    user = np.searchsorted(planted["user_id"].to_numpy().astype(str), columns["user_id"].astype(str))
    columns["user"] = user
    columns["group"] = planted["group"].to_numpy()[user]
    for name in ("age_band", "city"):
        columns[name] = world["users"][name].to_numpy()[user]
    return columns


def _planted(world, name):
    return pq.read_table(world["out"] / "planted" / f"{name}.parquet")


def _bytes(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


# The contract and the accounts.


def test_same_config_same_bytes_and_another_seed_another_log(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate(SimulatorConfig(impressions=5_000, seed=seed), tmp_path / name)
    a, b, c = (_bytes(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


def test_the_number_of_shards_changes_files_and_not_rows(tmp_path):
    for shards in (1, 3):
        config = SimulatorConfig(impressions=3_000, shards=shards, bad_rows=0)
        simulate(config, tmp_path / str(shards))
    for table in (*TABLES, "truth"):
        assert pq.read_table(tmp_path / "1" / table).equals(pq.read_table(tmp_path / "3" / table))
    assert len(list((tmp_path / "3" / "impressions").iterdir())) == 3


@pytest.mark.parametrize("impressions", [1_000, 1_003, 9_999])
def test_impressions_are_exact(tmp_path, impressions):
    summary = simulate(SimulatorConfig(impressions=impressions, bad_rows=7), tmp_path / "logs")
    assert summary.impression_rows == impressions + 7
    assert pq.read_table(tmp_path / "logs" / "impressions").num_rows == impressions + 7
    unknown = summary.bad_rows["unknown_item"]  # ingestion keeps them, so they have a truth
    assert unknown == 1
    assert pq.read_table(tmp_path / "logs" / "truth").num_rows == impressions + unknown


def test_requests_are_well_formed(world, flat):
    assert len(flat["request_id"]) == 200_000
    _, size = np.unique(flat["request_id"], return_counts=True)
    assert size.min() == 5 and size.max() == 30
    order = np.lexsort((flat["position"], flat["request_id"]))
    np.testing.assert_array_equal(flat["position"][order], np.concatenate([np.arange(n) for n in size]))
    # Strictly increasing times within a user: what came before a request is never in doubt.
    pairs = np.unique(np.stack([flat["user"], flat["timestamp"]]), axis=1).shape[1]
    assert pairs == len(size) == world["summary"].requests
    np.testing.assert_array_equal(flat["hour"], flat["timestamp"] // 3_600_000 % 24)
    weekday = pc.day_of_week(pa.array(flat["timestamp"], pa.timestamp("ms"))).to_numpy()
    np.testing.assert_array_equal(flat["weekday"], weekday)
    assert (flat["release"] <= flat["timestamp"]).all()
    assert (flat["release"] > world["summary"].config.start).mean() > 0.02
    assert ((flat["propensity"] > 0) & (flat["propensity"] <= 1)).all()


def test_bad_rows_are_as_counted(world):
    impressions, items = world["impressions"], world["items"]
    _, count = np.unique(_keys(impressions), return_counts=True)
    found = {
        "null_user": impressions["user_id"].null_count,
        "negative_timestamp": pc.sum(pc.less(impressions["timestamp"], 0)).as_py(),
        "propensity_above_one": pc.sum(pc.greater(impressions["propensity"], 1)).as_py(),
        "duplicate_impression": int((count - 1).sum()),
        "unknown_item": pc.sum(pc.invert(pc.is_in(impressions["item_id"], items["item_id"].combine_chunks()))).as_py(),
    }
    assert found == world["summary"].bad_rows
    assert sum(found.values()) == 20


def test_summary_file_and_click_accounts(world, flat):
    summary = world["summary"]
    text = (world["out"] / "summary.json").read_text()
    assert SimulationSummary.model_validate_json(text) == summary
    clicks = world["clicks"]
    assert summary.click_rows == clicks.num_rows
    assert flat["clicked"].sum() == summary.clicked_impressions
    shown = dict(zip(flat["request_id"], flat["timestamp"], strict=True))
    delay = clicks["timestamp"].to_numpy() - np.array([shown[r] for r in clicks["request_id"].to_numpy()])
    assert delay.min() > 0
    is_order = clicks["label"].to_numpy() == "order"
    key = np.char.add(_keys(clicks), clicks["label"].to_numpy().astype(str))
    unique, first, count = np.unique(key, return_index=True, return_counts=True)
    assert (count - 1).sum() == summary.duplicate_click_rows > 50
    assert count.max() == 2
    late = delay > 24 * 3_600_000
    assert late[first][~is_order[first]].sum() == summary.late_clicks > 50
    assert is_order[first].sum() == summary.orders
    # Only what was clicked is ever ordered, and the order comes after its click.
    when = {(k, o): t for k, o, t in zip(_keys(clicks)[first], is_order[first], delay[first], strict=True)}
    assert all(when[(k, False)] < t for (k, o), t in when.items() if o)


def test_truth_lies_apart_and_covers_every_impression(world):
    assert not any("truth" in p.name or "planted" in p.name for t in TABLES for p in (world["out"] / t).iterdir())
    hidden = {"click_probability", "examination", "attraction", "long_term", "cluster", "niche", "group", "quality"}
    assert not hidden & {name for table in TABLES for name in world[table].column_names}
    unknown = world["impressions"].filter(pc.equal(world["impressions"]["item_id"], UNKNOWN_ITEM))
    kept = np.concatenate([_keys(world["good"]), _keys(unknown)])
    np.testing.assert_array_equal(np.sort(_keys(world["truth"])), np.sort(kept))
    never = world["truth"].filter(pc.equal(world["truth"]["item_id"], UNKNOWN_ITEM))
    assert len(never) == world["summary"].bad_rows["unknown_item"] and not never["click_probability"].to_numpy().any()


def test_feature_spec_fits_the_tables(world):
    spec = load_spec(REPOSITORY / "tfx_config" / "features_simulated.yaml")
    for feature in spec.features:
        column = world[feature.table].schema.field(feature.column).type
        value = column.value_type if feature.multi_valued else column
        assert str(value).replace("double", "float64") == feature.dtype


def test_an_occupied_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        simulate(SimulatorConfig(impressions=1_000), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_earlier_simulation_is_replaced(tmp_path):
    simulate(SimulatorConfig(impressions=2_000, shards=3), tmp_path / "logs")
    simulate(SimulatorConfig(impressions=1_000, shards=1), tmp_path / "logs")
    assert len(list((tmp_path / "logs" / "truth").iterdir())) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_candidates": 9, "max_candidates": 8}, "min_candidates"),
        ({"num_users": 10, "max_requests_per_user": 5}, "max_requests_per_user"),
        ({"temperature": 0}, "temperature"),
        ({"niches_per_cluster": 3, "num_items": 71}, "`num_items` must be at least 72.*`num_items`=71"),
        ({"impresions": 5}, "impresions"),
    ],
)
def test_impossible_configs_are_refused_by_name(values, message):
    with pytest.raises(ValidationError, match=message):
        SimulatorConfig(**values)


# Planted laws and effects.


def test_popularity_follows_zipf_and_exposure_follows_popularity(world, flat):
    planted = _planted(world, "items")
    popularity = planted["popularity"].to_numpy()
    ranked = np.sort(popularity)[::-1]
    slope = np.polyfit(np.log(np.arange(1, len(ranked) + 1)), np.log(ranked), 1)[0]
    assert slope == pytest.approx(-1.0, abs=1e-6)
    shown = np.bincount(np.searchsorted(planted["item_id"].to_numpy(), flat["item_id"]), minlength=len(ranked))
    head = np.argsort(-popularity)[:1000]
    exposure = np.polyfit(np.log(popularity[head]), np.log(shown[head] + 1), 1)[0]
    # Exponent 1 at temperature 1.5 is 2/3; without replacement and exploration flatten it.
    assert 0.4 < exposure < 0.75


def test_activity_has_a_long_tail(world):
    clicks = _planted(world, "users")["clicks"].to_numpy()
    active = _planted(world, "users")["requests"].to_numpy() > 0
    assert (clicks[active] < 5).mean() > 0.5
    assert clicks.max() > 1_000
    assert (clicks > 50).sum() > 30
    assert clicks.sum() == world["summary"].clicked_impressions


def test_clicks_come_with_their_stated_probability(flat):
    p = flat["click_probability"]
    np.testing.assert_allclose(p, flat["examination"] * flat["attraction"], rtol=1e-12)
    assert 0.05 < flat["clicked"].mean() < 0.15
    for part in np.array_split(np.argsort(p), 20):
        sigma = np.sqrt((p[part] * (1 - p[part])).sum())
        assert abs(flat["clicked"][part].sum() - p[part].sum()) < 4.5 * sigma


def test_position_bias_is_recovered(flat):
    for position in (0, 4, 14, 24):
        at = flat["position"] == position
        a = flat["attraction"][at]
        rate = flat["clicked"][at].sum() / a.sum()
        expected = (1 + position) ** -0.4
        assert abs(rate - expected) < 5 * np.sqrt(expected / a.sum())


@pytest.mark.parametrize(
    ("effect", "row", "rows", "column"),
    [("age_category", "age_band", "ages", "category"), ("city_brand", "city", "cities", "brand")],
)
def test_field_interactions_show_in_click_rates(world, flat, effect, row, rows, column):
    planted = json.loads((world["out"] / "planted" / "effects.json").read_text())
    table = np.array(planted[effect])
    columns = planted["categories"] if column == "category" else [f"brand_{b:02d}" for b in range(table.shape[1])]
    of_row = pc.index_in(pa.array(flat[row]), pa.array(planted[rows]))
    of_column = pc.index_in(pa.array(flat[column]), pa.array(columns)).to_numpy()
    known = pc.is_valid(of_row).to_numpy(zero_copy_only=False)
    cell = pc.fill_null(of_row, 0).to_numpy() * len(columns) + of_column
    shown = np.bincount(cell[known], minlength=table.size)
    clicks = np.bincount(cell[known], flat["clicked"][known], minlength=table.size)
    often = shown >= 300
    assert often.sum() >= 50
    seen, value, size = np.log(clicks[often] / shown[often] + 0.01), table.ravel()[often], shown[often]
    correlation = _correlation(seen, value, size)
    shuffled = _correlation(seen, np.random.default_rng(0).permutation(value), size)
    assert correlation > 0.5
    assert correlation > abs(shuffled) + 0.2


def _correlation(x, y, weight):
    covariance = np.cov(np.stack([x, y]), aweights=weight)
    return covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])


def test_groups_weigh_price_differently(flat):
    price = flat["price"]
    low, high = np.nanquantile(price, [0.3, 0.7])
    lead = {}
    for group in GROUPS:
        of = flat["group"] == group
        lead[group] = flat["clicked"][of & (price > high)].mean() / flat["clicked"][of & (price < low)].mean()
    assert lead["bargain_hunter"] < 0.6
    assert lead["connoisseur"] > 1.3
    # The device hints at the group and does not tell it.
    devices = pa.array(["android", "ios", "desktop", "tablet"])
    own = devices.take(pc.index_in(pa.array(flat["group"]), pa.array(GROUPS))).to_numpy(zero_copy_only=False)
    assert 0.35 < (own == flat["device"]).mean() < 0.7


def test_long_term_term_is_what_only_older_behaviors_reveal(world, flat):
    """Rebuilds every user's behaviours from the log alone and compares with the truth, impression by impression."""
    niches = defaultdict(set)
    planted = _planted(world, "users")
    for user, own in enumerate(planted["niches"].to_pylist()):
        niches[user] = set(own)
    interests = [set(own) for own in planted["interests"].to_pylist()]
    assert {len(own) for own in interests} == {1, 2, 3, 4, 5}

    order = np.lexsort((flat["position"], flat["timestamp"], flat["user"]))
    n = len(order)
    rebuilt, in_old, in_recent, in_interest = (np.zeros(n, bool) for _ in range(4))
    count = np.zeros(n, int)
    history, pending, current, last_user = [], [], None, None
    recent, old = set(), set()
    for row in order:
        user, request, niche = flat["user"][row], flat["request_id"][row], flat["niche"][row]
        if user != last_user:
            history, pending = [], []
        if request != current:
            history = history + pending
            pending = []
            recent, old = set(history[-50:]), set(history[:-50])
        last_user, current = user, request
        in_old[row], in_recent[row], count[row] = niche in old, niche in recent, len(history)
        in_interest[row] = flat["cluster"][row] in interests[user]
        rebuilt[row] = niche in old and niche not in recent and niche in niches[user]
        if flat["clicked"][row]:
            pending.append(niche)

    np.testing.assert_array_equal(rebuilt, flat["long_term"])
    np.testing.assert_array_equal(count, flat["behaviors_before"])
    assert rebuilt.mean() > 0.01

    # From the log alone, interests and the last 50 held fixed: older behaviours tell what will be clicked.
    same = in_interest & ~in_recent & (count > 100)
    dormant, never = same & in_old, same & ~in_old
    rate = flat["clicked"][dormant].mean() / flat["clicked"][never].mean()
    assert dormant.sum() > 2_000 and never.sum() > 2_000
    assert rate > 1.5
    # Clicked niches please for other reasons too. With all of these held fixed (the true probability without the term)
    # the lead stays, and where there is no old behaviour nothing is left to explain.
    without = _without_long_term(flat)
    lead = flat["clicked"][dormant].sum() / without[dormant].sum()
    control = flat["clicked"][never].sum() / without[never].sum()
    assert lead > 1.4
    assert abs(control - 1) < 5 / np.sqrt(flat["clicked"][never].sum())


def _without_long_term(flat):
    weight = 3.0
    logit = np.log(flat["attraction"] / (1 - flat["attraction"])) - weight * flat["long_term"]
    return flat["examination"] / (1 + np.exp(-logit))


def test_features_have_a_lead_over_item_click_rates(flat):
    late = flat["timestamp"] > np.quantile(flat["timestamp"], 0.8)
    code = np.unique(flat["item_id"], return_inverse=True)[1]
    prior = flat["clicked"][~late].mean()
    clicks = np.bincount(code[~late], flat["clicked"][~late], code.max() + 1) + 10 * prior
    item_ctr = clicks / (np.bincount(code[~late], minlength=code.max() + 1) + 10)
    baseline = _auc(flat["clicked"][late], item_ctr[code][late])
    oracle = _auc(flat["clicked"][late], flat["click_probability"][late])
    assert 0.55 < baseline < 0.66
    assert 0.75 < oracle < 0.85


def _auc(label, score):
    _, inverse, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse]
    positives = label.sum()
    return (rank[label].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives))


def test_the_item_tree_is_as_configured(tmp_path):
    """Every niche has an item, names tell the tree, and users' interests and clicks range over all clusters."""
    config = SimulatorConfig(
        impressions=20_000, clusters_per_category=5, niches_per_cluster=3, num_items=400, shards=1, seed=2
    )
    simulate(config, tmp_path / "logs")
    items = pq.read_table(tmp_path / "logs" / "items")
    planted = pq.read_table(tmp_path / "logs" / "planted" / "items.parquet")
    assert set(planted["niche"].to_pylist()) == set(range(12 * 5 * 3))
    assert (planted["niche"].to_numpy() // 3 == planted["cluster"].to_numpy()).all()
    category = np.array(sorted(set(items["category"].to_pylist())))
    codes = dict(zip(planted["item_id"].to_pylist(), planted["niche"].to_pylist(), strict=True))
    for row in items.select(["item_id", "category", "subcategory"]).to_pylist():
        niche = codes[row["item_id"]]
        assert row["subcategory"] == f"{category[niche // 15]}_{niche // 3}_{niche % 3:02d}"
        assert row["category"] == category[niche // 15]
    users = pq.read_table(tmp_path / "logs" / "planted" / "users.parquet")
    assert set(users["interests"].combine_chunks().flatten().to_pylist()) == set(range(12 * 5))
