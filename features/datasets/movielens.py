"""MovieLens-1M as log contract tables, with the protocol of the AutoInt paper.

`convert` writes three tables (Parquet):

    impressions  request_id, timestamp (ms), user_id, item_id, click, rating_time (s), split
    users        user_id, gender, age, occupation, zip_code
    items        item_id (the title with its year), genres (list), release_year_bucket, release_year

One request is one rating, in the order of the original `ratings.dat`; its one candidate is the movie that was rated.
Ratings above 3 are clicks, below 3 are not, 3 is left out: 739,012 rows. `split` reproduces the reference code's split
(seed 2019, 80% train, 10% eval, 10% test); a profile that splits by time ignores it.

The data are Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015; the protocol is
Song et al., "AutoInt", CIKM 2019, as in the authors' `featureRec/movielens/data/preprocess.py`.
"""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from features import storage
from features.arrow import write_parquet
from features.errors import InputError, NotFoundError
from features.storage import AnyPath

SPLIT_SEED = 2019
TABLES = ("impressions", "users", "items")

PAPER_ROWS = 739_012
PAPER_FEATURES = 3_529
PAPER_FIELDS = ("gender", "age", "occupation", "zip_code", "genres", "release_year_bucket", "rating_time")

_COLUMN_TYPES = {
    "inter": {
        "user_id:token": pa.string(),
        "item_id:token": pa.string(),
        "rating:float": pa.int64(),
        "timestamp:float": pa.int64(),
    },
    "user": {
        "user_id:token": pa.string(),
        "age:float": pa.int64(),
        "gender:token": pa.string(),
        "occupation:float": pa.int64(),
        "zip_code:token": pa.string(),  # five digits, nine with a dash, leading zeros: never a number
    },
    "item": {"item_id:token": pa.string(), "release_year:float": pa.int64(), "genre:token": pa.string()},
}


def convert(source: AnyPath, out: AnyPath) -> dict[str, int]:
    """Converts `ml-1m.inter`, `ml-1m.item` and `ml-1m.user` of `source` into the tables `out/<table>.parquet`.

    Returns:
      The counts of `count_features`, and `users`, `items`, `impressions`, `clicks`.

    Raises:
      NotFoundError: if a file is missing.
      InputError: if the files contradict one another, e.g. a rating of an unknown movie.
    """
    ratings, users, items = read_ratings(source), read_users(source), read_items(source)
    for key, table in (("user_id", users), ("item_id", items)):
        if pc.count_distinct(table[key]).as_py() != table.num_rows:
            raise InputError(f"{source}: `{key}` must be unique in its table; it is not.")
        unknown = pc.invert(pc.is_in(ratings[key], value_set=table[key].combine_chunks()))
        if pc.any(unknown).as_py():
            raise InputError(f"{source}: a rating has the unknown `{key}`={ratings[key].filter(unknown)[0].as_py()!r}.")
    impressions = make_impressions(ratings)
    for name, table in (("impressions", impressions), ("users", users), ("items", items)):
        write_parquet(table, storage.join(out, f"{name}.parquet"), row_group_size=65_536)
    return {
        "users": users.num_rows,
        "items": items.num_rows,
        "impressions": impressions.num_rows,
        "clicks": int(pc.sum(impressions["click"]).as_py() or 0),
        **count_features(users, items),
    }


def make_impressions(ratings: pa.Table) -> pa.Table:
    """Makes one impression a rating that is not 3, in the given order, with its split.

    Args:
      ratings: `user_id`, `item_id`, `rating`, `seconds`, in the order of the original file: the split depends on it.
    """
    row = pa.array(np.arange(ratings.num_rows))
    ratings = ratings.append_column("row", row).filter(pc.not_equal(ratings["rating"], 3))
    return pa.table(
        {
            "request_id": pc.cast(ratings["row"], pa.string()),
            "timestamp": pc.multiply(ratings["seconds"], 1000),
            "user_id": ratings["user_id"],
            "item_id": ratings["item_id"],
            "click": pc.cast(pc.greater(ratings["rating"], 3), pa.float32()),
            "rating_time": pc.cast(ratings["seconds"], pa.float64()),
            "split": reference_split(ratings.num_rows),
        }
    )


def reference_split(rows: int) -> pa.Array:
    """Returns `train`, `eval` or `test` of each row, exactly as the reference code splits.

    It shuffles `range(rows)` with Python's generator, seed 2019; the first 80% train, the next 10% validate, the rest
    test.
    """
    shuffled = list(range(rows))
    random.Random(SPLIT_SEED).shuffle(shuffled)
    order = np.asarray(shuffled, dtype=np.int64)
    split = np.full(rows, 2, dtype=np.int8)
    split[order[: int(rows * 0.8)]] = 0
    split[order[int(rows * 0.8) : int(rows * 0.9)]] = 1
    return pa.DictionaryArray.from_arrays(pa.array(split), ["train", "eval", "test"]).cast(pa.string())


def release_year_bucket(years: np.ndarray) -> pa.Array:
    """Buckets release years as the paper does: 1919-1929, decades until 1969, then single years.

    Args:
      years: int64 `[n]`, each 1919 to 2000.
    """
    if years.size and (years.min() < 1919 or years.max() > 2000):
        raise ValueError(f"release years must lie in 1919 to 2000. Received: {years.min()} to {years.max()}.")
    names = ["1919-1929", "1930-1939", "1940-1949", "1950-1959", "1960-1969", *map(str, range(1970, 2001))]
    bucket = np.where(years < 1970, np.maximum(years // 10 - 192, 0), years - 1965).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(bucket), names).cast(pa.string())


def count_features(users: pa.Table, items: pa.Table) -> dict[str, int]:
    """Counts features as the paper does, over all users and movies: 3,529 for MovieLens-1M.

    2 genders + 7 age bands + 21 occupations + 3,439 zip codes + 18 genres + 5 null genres (the reference pads every
    movie to 6 genres, and gives each of the 5 slots that can be empty an index of its own) + 36 release year buckets
    + 1 for the timestamp, a number.
    """
    genres = items["genres"].combine_chunks()
    lengths = pc.list_value_length(genres)
    counts = {name: pc.count_distinct(users[name]).as_py() for name in ("gender", "age", "occupation", "zip_code")}
    counts["genres"] = pc.count_distinct(pc.list_flatten(genres)).as_py()
    counts["null_genres"] = pc.max(lengths).as_py() - pc.min(lengths).as_py()
    counts["release_year_bucket"] = pc.count_distinct(items["release_year_bucket"]).as_py()
    counts["rating_time"] = 1
    return {**counts, "features": sum(counts.values()), "fields": len(PAPER_FIELDS)}


def check_counts(counts: dict[str, int]) -> None:
    """Raises InputError unless `counts` (of `convert`) are those of the whole MovieLens-1M."""
    expected = {
        "users": 6_040,
        "items": 3_883,
        "impressions": PAPER_ROWS,
        "clicks": 575_281,
        "features": PAPER_FEATURES,
        "fields": 7,
    }
    wrong = [
        f"`{name}` must be {value}. Received: {counts[name]}."
        for name, value in expected.items()
        if counts[name] != value
    ]
    if wrong:
        raise InputError("not MovieLens-1M: " + " ".join(wrong))


def read_ratings(source: AnyPath) -> pa.Table:
    """Reads `ml-1m.inter` in file order: `user_id`, `item_id` (strings), `rating`, `seconds` (int64)."""
    table = _read(source, "inter")
    return pa.table(
        {
            "user_id": _plain_user_id(table["user_id:token"]),
            "item_id": table["item_id:token"],
            "rating": table["rating:float"],
            "seconds": table["timestamp:float"],
        }
    )


def read_users(source: AnyPath) -> pa.Table:
    """Reads `ml-1m.user`; age is the lower end of its band, occupation its code in the original README."""
    table = _read(source, "user")
    return pa.table(
        {
            "user_id": _plain_user_id(table["user_id:token"]),
            "gender": table["gender:token"],
            "age": table["age:float"],
            "occupation": table["occupation:float"],
            "zip_code": table["zip_code:token"],
        }
    )


def read_items(source: AnyPath) -> pa.Table:
    """Reads `ml-1m.item`; titles, with their year, are unique and are the item ids."""
    table = _read(source, "item")
    years = table["release_year:float"]
    return pa.table(
        {
            "item_id": table["item_id:token"],
            "genres": pc.split_pattern(table["genre:token"], " ").combine_chunks(),
            "release_year_bucket": release_year_bucket(years.to_numpy()),
            "release_year": years,
        }
    )


def _plain_user_id(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """`1m_17`, as this distribution marks its users, is MovieLens's user 17."""
    return pc.replace_substring_regex(values, pattern="^1m_", replacement="")


def _read(source: AnyPath, kind: str) -> pa.Table:
    path = storage.join(source, f"ml-1m.{kind}")
    if not storage.is_file(path):
        raise NotFoundError(f"{path} does not exist: expected the files ml-1m.inter, ml-1m.item and ml-1m.user.")
    types = _COLUMN_TYPES[kind]
    return pyarrow.csv.read_csv(
        storage.open_arrow(path),
        # Titles hold quotes and commas that mean nothing.
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
        ),
    )
