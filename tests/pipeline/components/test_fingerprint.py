"""What stands behind a path, and which model is live: the answers that the cache's keys are made of."""

import os

import pytest

from features.ingest.reading.fingerprint import fingerprint_paths, match_files
from pipeline.components.evaluators.live_model import find_live_model


def test_other_contents_of_the_same_size_change_the_fingerprint(tmp_path):
    file = tmp_path / "impressions-0.csv"
    file.write_text("aaaa")
    before = fingerprint_paths([str(tmp_path)])
    assert fingerprint_paths([str(tmp_path)]) == before
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns + 1_000_000))
    file_changed = fingerprint_paths([str(tmp_path)])
    assert file_changed != before


def test_a_file_more_or_renamed_changes_the_fingerprint(tmp_path):
    first = tmp_path / "a.csv"
    first.write_text("1")
    one = fingerprint_paths([str(tmp_path)])
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "b.csv").write_text("1")
    two = fingerprint_paths([str(tmp_path)])
    first.rename(tmp_path / "c.csv")
    assert len({one, two, fingerprint_paths([str(tmp_path)])}) == 3


@pytest.mark.parametrize("path", ["a.csv", "", "*.csv"])
def test_a_file_a_directory_and_a_glob_are_found(tmp_path, path):
    (tmp_path / "a.csv").write_text("1")
    assert [name for name, _, _ in match_files(str(tmp_path / path))] == [str(tmp_path / "a.csv")]


def test_nothing_behind_a_path_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="No file matches"):
        fingerprint_paths([str(tmp_path / "absent")])


def saved_model(path, identity):
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "fingerprint.pb").write_bytes(identity)
    return path


def test_the_live_model_is_the_latest_version_but_not_the_candidate_itself(tmp_path):
    serving = tmp_path / "serving"
    candidate = saved_model(tmp_path / "candidate", b"C")
    assert find_live_model(serving, candidate) is None
    first = saved_model(serving / "9", b"A")
    # Versions are numbers, not texts: 10 is later than 9.
    second = saved_model(serving / "10", b"B")
    assert find_live_model(serving, candidate) == str(second)
    saved_model(serving / "11", b"C")
    assert find_live_model(serving, candidate) == str(second)
    # A half-copied version (no saved_model.pb yet) is not served.
    (serving / "12").mkdir()
    assert find_live_model(serving, candidate) == str(second)
    assert find_live_model(serving, second) == str(serving / "11")
    assert find_live_model(serving, first) == str(serving / "11")
