"""`clickmill doctor`: what this machine has, what is missing, and how to get it.

Needs nothing but the standard library, so that `python -m pipeline.cli.doctor` also answers where the installation
failed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

with contextlib.suppress(ImportError):  # nothing but the command itself needs it
    import typer

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30

MIN_GLIBC = (2, 17)  # manylinux2014, which the wheels of TensorFlow 2.16 and TFX 1.16 are built for
MIN_GLIBC_OF_NEWER = (2, 39)  # the same of TensorFlow 2.21 and TFX 1.21; the Makefile chooses by it too
STACKS = {(3, 10): "py310-tfx116", (3, 13): "py313-tfx121"}  # Python → name of the lock in requirements/
MEMORY_TO_RUN, MEMORY_TO_BE_EASY = 3 * GIB, 8 * GIB
DISK_TO_RUN, DISK_TO_BE_EASY = 1 * GIB, 5 * GIB


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    directory: Annotated[Path, typer.Option("--dir", help="Where runs would be written.")] = Path("."),
) -> None:
    """Check this machine, and say how to get what is missing."""
    from rich.table import Column, Table

    from pipeline.cli.console import out

    checks = run_checks(directory)
    if as_json:
        print(to_json(checks))
    else:
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failure": "[red]failure[/]"}
        # A narrow terminal wraps what was found; it cuts nothing off.
        names = (Column("", no_wrap=True), Column("", no_wrap=True))
        texts = (Column("found", overflow="fold"), Column("to do", overflow="fold"))
        table = Table(*names, *texts, box=None, pad_edge=False)
        for check in checks:
            table.add_row(marks[check.level], check.name, check.found, check.fix)
        out().print(table)
    raise typer.Exit(any(check.level == "failure" for check in checks))


@dataclass(frozen=True)
class Check:
    """What was found about one thing.

    Attributes:
      name: what was looked at.
      level: `ok`; `warning`: works, but slowly or partly; `failure`: the pipeline cannot run.
      found: what is there.
      fix: how to get what is missing; empty when all is well.
    """

    name: str
    level: Literal["ok", "warning", "failure"]
    found: str
    fix: str = ""


def run_checks(directory: str | Path = ".") -> list[Check]:
    """Looks at the interpreter, the C library, processors, memory, disk and packages.

    Args:
      directory: where runs would be written: its free disk space counts.
    """
    stack = STACKS.get(sys.version_info[:2], STACKS[stack_python(platform.libc_ver())])
    return [
        check_python(sys.version_info[:3], platform.libc_ver()),
        check_libc(platform.system(), platform.machine(), platform.libc_ver()),
        check_processors(usable_processors(), cpu_flags()),
        check_memory(*memory()),
        check_disk(Path(directory)),
        check_packages(ROOT / "requirements" / f"{stack}.lock"),
        check_legacy_keras(os.environ.get("TF_USE_LEGACY_KERAS")),
    ]


def stack_python(libc: tuple[str, str]) -> tuple[int, int]:
    """Returns the Python version of the stack that `make` takes on this C library, given as (name, version)."""
    return (3, 13) if libc[0] == "glibc" and _version(libc[1]) >= MIN_GLIBC_OF_NEWER else (3, 10)


def check_python(version: tuple[int, int, int], libc: tuple[str, str]) -> Check:
    found = f"Python {'.'.join(map(str, version))} ({sys.executable})"
    expected = stack_python(libc)
    if version[:2] == expected:
        return Check("interpreter", "ok", found)
    wanted = f"{STACKS[expected]} is the stack of machines with {' '.join(libc).strip() or 'an unknown libc'}"
    fix = f"{wanted}: install Python {'.'.join(map(str, expected))}, then `make clean setup`."
    return Check("interpreter", "warning" if version[:2] == (3, 10) else "failure", found, fix)


def check_libc(system: str, machine: str, libc: tuple[str, str]) -> Check:
    name, version = libc
    found = f"{system} {machine}, {name or 'unknown libc'} {version}".strip()
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        fix = "TFX's wheels are for Linux on x86_64: use a container or virtual machine (any glibc-based image)."
        return Check("glibc", "failure", found, fix)
    if name != "glibc":
        return Check(
            "glibc", "failure", found, "TensorFlow has no wheels for musl (Alpine): use Debian, Ubuntu or RHEL."
        )
    if _version(version) < MIN_GLIBC:
        return Check(
            "glibc", "failure", found, f"glibc {'.'.join(map(str, MIN_GLIBC))} or newer is needed: a newer image."
        )
    return Check("glibc", "ok", found)


def check_processors(count: float, flags: frozenset[str]) -> Check:
    found = f"{count:g} usable" + (", AVX2" if "avx2" in flags else "")
    if flags and "avx" not in flags:
        return Check(
            "processors", "failure", found, "TensorFlow's wheels need AVX: use a newer (virtual) processor type."
        )
    if count < 2:
        return Check("processors", "warning", found, "Runs take about twice as long on one core: give it two or more.")
    return Check("processors", "ok", found)


def check_memory(available: int, total: int) -> Check:
    found = f"{available / GIB:.1f} GiB free of {total / GIB:.1f}"
    if available < MEMORY_TO_RUN:
        return Check("memory", "failure", found, f"A run needs {MEMORY_TO_RUN // GIB} GiB free: close something.")
    if available < MEMORY_TO_BE_EASY:
        easy = MEMORY_TO_BE_EASY // GIB
        fix = f"{easy} GiB are comfortable; with less, `lanes: 1` in the profile, or fewer impressions."
        return Check("memory", "warning", found, fix)
    return Check("memory", "ok", found)


def check_disk(directory: Path) -> Check:
    existing = next(path for path in (directory.resolve(), *directory.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / GIB:.1f} GiB free at {existing}"
    if free < DISK_TO_RUN:
        return Check(
            "disk", "failure", found, f"A run needs {DISK_TO_RUN // GIB} GiB: delete old `runs/`, or run elsewhere."
        )
    if free < DISK_TO_BE_EASY:
        return Check("disk", "warning", found, f"{DISK_TO_BE_EASY // GIB} GiB are comfortable: delete old `runs/`.")
    return Check("disk", "ok", found)


def check_packages(lock: Path) -> Check:
    """Compares what is installed with the lock."""
    try:
        pinned = read_lock(lock.read_text(encoding="utf-8").splitlines())
    except OSError:
        return Check("packages", "warning", f"no lock at {lock}", "Run it inside a clone to compare with the lock.")
    # Of this environment alone: setuptools, once imported, adds the packages that it carries to `sys.path`.
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    found = importlib.metadata.distributions(path=folders)
    installed = {_normal(dist.metadata["Name"]): dist.version for dist in found}
    missing = sorted(name for name in pinned if name not in installed)
    other = sorted(name for name in pinned if name in installed and installed[name] != pinned[name])
    if missing:
        found = f"{len(missing)} of {len(pinned)} missing: {_some(missing)}"
        return Check("packages", "failure", found, "`make setup` installs them.")
    if other:
        found = f"{len(other)} of {len(pinned)} differ from the lock: " + _some(
            f"{name} {installed[name]} (locked {pinned[name]})" for name in other
        )
        return Check("packages", "warning", found, "`make clean setup` installs the locked versions.")
    return Check("packages", "ok", f"all {len(pinned)} of {lock.name} in their versions")


def check_legacy_keras(value: str | None) -> Check:
    if value is None or value == "1":
        return Check("keras", "ok", "tf_keras (Keras 2), as TensorFlow Recommenders needs")
    fix = "unset it, or set it to 1: TensorFlow Recommenders does not work with Keras 3."
    return Check("keras", "failure", f"TF_USE_LEGACY_KERAS={value}", fix)


def read_lock(lines: Iterable[str]) -> dict[str, str]:
    """Returns {normalised name: version} of the `name==version` lines."""
    pins = (re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", line) for line in lines)
    return {_normal(pin[1]): pin[2] for pin in pins if pin}


def usable_processors() -> float:
    """Processors this process may use: affinity, and a container's quota."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return count if quota == "max" else min(count, int(quota) / int(period))
    except (OSError, ValueError):
        return count


def cpu_flags() -> frozenset[str]:
    """Instruction sets that the kernel reports; empty where it does not."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def memory() -> tuple[int, int]:
    """Returns (available, total) bytes, within a container's limit."""
    sizes = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            key, _, rest = line.partition(":")
            sizes[key] = int(rest.split()[0]) * 1024
        available, total = sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, KeyError, IndexError, ValueError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        available = total
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return available, total
    return max(0, min(available, limit - used)), min(total, limit)


def to_json(checks: list[Check]) -> str:
    """Returns `{"ok": …, "checks": [{name, level, found, fix}, …]}`."""
    ok = all(check.level != "failure" for check in checks)
    return json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}, indent=2)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _some(names: Iterable[str], limit: int = 6) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


if __name__ == "__main__":
    results = run_checks()
    for result in results:
        print(f"{result.level:8} {result.name:12} {result.found}" + (f"\n{'':22}{result.fix}" if result.fix else ""))
    sys.exit(any(result.level == "failure" for result in results))
