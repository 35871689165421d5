"""A directory that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from features.spec import FeatureSpec
from serving.signature_specs import SPEC_FILE


@contextlib.contextmanager
def published(directory: Path, overwrite: bool = False) -> Iterator[Path]:
    """Gives a hidden directory beside `directory` to write into; renames it if the body succeeds, else removes it."""
    _refuse_existing(directory, overwrite)
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = directory.parent / f".{directory.name}.{uuid.uuid4().hex}"
    aside.mkdir()
    try:
        yield aside
        # What was written meanwhile by another export is not ours to replace either.
        _refuse_existing(directory, overwrite)
        if directory.is_dir() and any(directory.iterdir()):
            _swap(aside, directory)
        else:
            os.replace(aside, directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def published_model(directory: Path, spec: FeatureSpec, overwrite: bool = False) -> Iterator[Path]:
    """`published` for a SavedModel: the spec of its features lies in its assets already."""
    with published(directory, overwrite) as aside:
        spec_file = aside / SPEC_FILE
        spec_file.parent.mkdir()
        spec_file.write_text(spec.model_dump_json(indent=1), encoding="utf-8")
        yield aside


def _swap(aside: Path, directory: Path) -> None:
    """Replaces a directory that is not empty: rename(2) cannot, so the old one is moved away first."""
    old = directory.parent / f"{aside.name}.old"
    os.replace(directory, old)
    try:
        os.replace(aside, directory)
    except OSError:
        os.replace(old, directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refuse_existing(directory: Path, overwrite: bool) -> None:
    if overwrite and not directory.is_file():
        return
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise FileExistsError(
            f"`directory` already holds an export and a served version never changes. Received: {directory}. Export "
            "under a new version, or pass `overwrite=True`."
        )
