"""`clickmill profiles …`: what is stored of users, for operators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from features.errors import RunError
from pipeline.cli.bse import AsInt, Json, User, tell_verification, user_id
from pipeline.cli.console import err, out

profiles = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Profiles of users: build, read, verify.",
)

Store = Annotated[Path, typer.Option("--store", "-s", help="The store: the folder of all its versions.")]
Version = Annotated[str | None, typer.Option("--version", help="Version of the features; the current one by default.")]


@profiles.command()
def build(
    spec: Annotated[str, typer.Option("--spec", metavar="FILE", help="The feature spec that the log was read with.")],
    examples: Annotated[
        str, typer.Option("--examples", "-e", metavar="FOLDER", help="Raw examples of an ingest, with their users/.")
    ],
    behaviors: Annotated[
        str, typer.Option("--behaviors", "-b", metavar="FOLDER", help="Raw behaviour log (behaviors-*.parquet).")
    ],
    store: Store,
    length: Annotated[
        int | None,
        typer.Option(min=0, help="Behaviours of a profile, the newest; by default those of the short history."),
    ] = None,
    as_of: Annotated[
        int | None,
        typer.Option(
            "--as-of",
            metavar="MILLISECONDS",
            help="Take in the behaviours before this time (UTC); by default all.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build even if nothing has changed.")] = False,
    as_json: Json = False,
) -> None:
    """Build every user's profile, and publish them as the store's current version."""
    with err().status("Building profiles …"):
        from features.spec import load_spec
        from serving.user_stores.profiles.build import build_profiles

        built = build_profiles(load_spec(spec), examples, behaviors, store, length=length, as_of=as_of, force=force)
    if as_json:
        print(json.dumps(built, indent=2))
        return
    what = "built" if built["built"] else "nothing has changed since it was built"
    out().print(
        f"{store}: version {built['version']}, {what}: {built['users']:,} users, "
        f"{built['users_without_features']:,} without features, {built['behaviors']:,} behaviours, "
        f"{built['length']:,} each at most",
        soft_wrap=True,
    )


@profiles.command()
def get(
    store: Store,
    user: User,
    user_type: AsInt = "string",
    version: Version = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole profile as JSON.")] = False,
) -> None:
    """Show what is stored of a user; exit code 1 if nothing is."""
    from serving.user_stores.profiles.store import ProfileStore

    with ProfileStore(store, version) as opened:
        found, held, columns = opened.get(user_id(user, user_type)), opened.version, opened.layout.columns
    if found is None:
        raise RunError(f"{store}: nothing is stored of the {user_type} user {user} in version {held}.")
    if as_json:
        whole = {"version": held, "user": user, "features": found.features, "behaviors": found.behaviors}
        print(json.dumps(whole))
        return
    from rich.table import Table

    for name, value in found.features.items():
        out().print(f"{name}: {value}", soft_wrap=True, markup=False)
    shown = Table(*columns)
    for behavior in found.behaviors:
        shown.add_row(*(str(behavior[name]) for name in columns))
    out().print(shown)
    out().print(f"{len(found.behaviors):,} behaviours, the newest last; version {held}")


@profiles.command()
def verify(store: Store, version: Version = None, as_json: Json = False) -> None:
    """Read every profile and check keys, checksums and behaviours; exit code 1 if one is wrong."""
    from serving.user_stores.profiles.store import ProfileStore

    with err().status("Verifying …"), ProfileStore(store, version) as opened:
        found, held = opened.verify(), opened.version
    tell_verification(store, held, found, as_json)
