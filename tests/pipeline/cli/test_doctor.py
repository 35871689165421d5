"""The doctor's judgements, one by one, and its report of this very machine."""

import importlib.metadata
import json
import os
import platform
import subprocess

import pytest

from pipeline.cli import doctor
from pipeline.cli.doctor import GIB

OLD, NEW = ("glibc", "2.36"), ("glibc", "2.39")


@pytest.mark.parametrize(
    "version, libc, level, wanted",
    [
        ((3, 10, 0), OLD, "ok", None),
        ((3, 10, 19), ("glibc", "2.4"), "ok", None),  # as a number, 2.4 is above 2.39
        ((3, 13, 0), OLD, "failure", "Python 3.10"),
        ((3, 9, 18), OLD, "failure", "Python 3.10"),
        ((3, 13, 5), NEW, "ok", None),
        ((3, 13, 5), ("glibc", "3.0"), "ok", None),
        ((3, 10, 19), NEW, "warning", "Python 3.13"),  # it runs, `make STACK=py310-tfx116` installs it
        ((3, 12, 1), NEW, "failure", "Python 3.13"),
        ((3, 13, 5), ("", ""), "failure", "Python 3.10"),
    ],
)
def test_interpreter_is_that_of_the_stack_for_this_glibc(version, libc, level, wanted):
    check = doctor.check_python(version, libc)
    assert check.level == level
    assert (f"install {wanted}," in check.fix) if wanted else not check.fix


def test_make_and_doctor_choose_the_same_stack():
    root = doctor.ROOT
    stacks = sorted(path.stem for path in (root / "requirements").glob("py*.lock"))
    assert stacks == sorted(doctor.STACKS.values())
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "STACK")}
    said = subprocess.run(["make", "--silent", "stack"], cwd=root, env=environment, capture_output=True, text=True)
    assert said.stdout.strip() == doctor.STACKS[doctor.stack_python(platform.libc_ver())], said.stderr
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert f"NEEDS := {'.'.join(map(str, doctor.MIN_GLIBC_OF_NEWER))}\n" in makefile


@pytest.mark.parametrize(
    "system, machine, libc, level",
    [
        ("Linux", "x86_64", ("glibc", "2.36"), "ok"),
        ("Linux", "x86_64", ("glibc", "2.17"), "ok"),
        ("Linux", "x86_64", ("glibc", "2.9"), "failure"),  # as a number, 2.9 is above 2.17
        ("Linux", "x86_64", ("", ""), "failure"),
        ("Linux", "aarch64", ("glibc", "2.36"), "failure"),
        ("Darwin", "arm64", ("", ""), "failure"),
    ],
)
def test_libc(system, machine, libc, level):
    check = doctor.check_libc(system, machine, libc)
    assert check.level == level
    assert bool(check.fix) == (level != "ok")


@pytest.mark.parametrize(
    "count, flags, level",
    [
        (2, {"avx", "avx2"}, "ok"),
        (2, set(), "ok"),  # the kernel does not say
        (1, {"avx"}, "warning"),
        (0.5, {"avx"}, "warning"),
        (8, {"sse4_2"}, "failure"),
    ],
)
def test_processors(count, flags, level):
    assert doctor.check_processors(count, frozenset(flags)).level == level


@pytest.mark.parametrize("available, level", [(8, "ok"), (4, "warning"), (1, "failure")])
def test_memory(available, level):
    check = doctor.check_memory(available * GIB, 16 * GIB)
    assert check.level == level
    assert check.found == f"{available}.0 GiB free of 16.0"


def test_disk_of_a_folder_that_does_not_exist_yet(tmp_path):
    assert str(tmp_path) in doctor.check_disk(tmp_path / "runs" / "new").found


def test_packages(tmp_path):
    lock = tmp_path / "requirements.lock"
    typer = importlib.metadata.version("typer")

    lock.write_text(
        f"# comment\ntyper=={typer}\nPyYAML=={importlib.metadata.version('pyyaml')} ; python_version < '4'\n"
    )
    assert doctor.check_packages(lock).level == "ok"
    assert doctor.check_packages(lock).found.startswith("all 2 ")

    lock.write_text(f"typer=={typer}.999\n")
    check = doctor.check_packages(lock)
    assert check.level == "warning" and f"typer {typer} (locked {typer}.999)" in check.found

    lock.write_text(f"typer=={typer}\nno-such-package==1.0\n")
    check = doctor.check_packages(lock)
    assert check.level == "failure" and "1 of 2 missing: no-such-package" in check.found and "make setup" in check.fix

    assert doctor.check_packages(tmp_path / "absent").level == "warning"


@pytest.mark.parametrize("value, level", [(None, "ok"), ("1", "ok"), ("0", "failure")])
def test_legacy_keras(value, level):
    assert doctor.check_legacy_keras(value).level == level


def test_lock_names_are_normalised():
    assert doctor.read_lock(["Ruamel.Yaml_clib[x]==0.2.8 ; extra == 'a'", "    --hash=sha256:0", "", "a==1!2.0+c"]) == {
        "ruamel-yaml-clib": "0.2.8",
        "a": "1!2.0+c",
    }


def test_this_machine(tmp_path):
    checks = doctor.run_checks(tmp_path)
    report = json.loads(doctor.to_json(checks))
    assert [check["name"] for check in report["checks"]] == [
        *("interpreter", "glibc", "processors", "memory", "disk", "packages", "keras")
    ]
    available, total = doctor.memory()
    assert 0 < available <= total
    assert report["ok"] == all(check["level"] != "failure" for check in report["checks"])
    assert all(check["fix"] for check in report["checks"] if check["level"] != "ok")
