"""Every test file is in one part of the suite, and what the parts and the newer stack name is there."""

from tests.house import parts


def test_every_file_is_in_one_part():
    files = [file for part in parts.PARTS for file in parts.files_of(part)]
    assert sorted(files) == sorted(path.relative_to(parts.ROOT).as_posix() for path in parts.TESTS.rglob("test_*.py"))
    assert all(parts.files_of(part) for part in parts.PARTS)


def test_what_is_named_is_there():
    places = [place for part in parts.PARTS.values() for place in part] + list(parts.STACK)
    assert [place for place in places if not (parts.ROOT / place).exists()] == []


def test_the_newer_stack_runs_a_part_of_each_room():
    files = [file for part in parts.PARTS for file in parts.files_of(part, parts.STACK)]
    assert {file.split("/")[1] for file in files} >= {"features", "evaluation", "models", "serving", "pipeline"}


def test_the_counts_of_a_part_are_those_of_its_last_line():
    said = "..s\n\n2 passed, 1 skipped, 3 deselected in 61.20s (0:01:01)\n"
    assert parts.Outcome(0, said, 61.2).counts == {"passed": 2, "skipped": 1, "deselected": 3}
    assert parts.Outcome(4, "ERROR: file or directory not found", 0.1).counts == {}
