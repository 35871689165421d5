"""`clickmill bse …`: bucket tables of long histories, for operators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from features.errors import InputError, RunError
from pipeline.cli.console import err, out

if TYPE_CHECKING:
    from serving.user_stores.record_pages import Verification

bse = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Bucket tables of long histories (BSE): sign, build, read, append, verify.",
)

Store = Annotated[Path, typer.Option("--store", "-s", help="The store: the folder of all its versions.")]
Version = Annotated[str | None, typer.Option("--version", help="Ranker version; the current one by default.")]
Model = Annotated[
    str, typer.Option("--model", "-m", metavar="FOLDER", help="Exported ranker: its folder, or one version of it.")
]
User = Annotated[str, typer.Option("--user", "-u", help="User id.")]
AsInt = Annotated[
    Literal["string", "int64"],
    typer.Option("--user-type", help="How the log holds user ids: a string and a number are two users."),
]
Signatures = Annotated[
    str | None,
    typer.Option("--signatures", metavar="FOLDER", help="Signatures of items newer than the ranker (`bse sign`)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@bse.command()
def sign(
    two_tower: Annotated[
        str, typer.Option("--two-tower", metavar="FOLDER", help="Pushed two-tower whose item embeddings were signed.")
    ],
    items: Annotated[
        str, typer.Option("--items", metavar="FILE", help="Parquet of raw items: item_id and the item features.")
    ],
    signatures: Annotated[
        str,
        typer.Option(
            "--signatures",
            metavar="FOLDER",
            help="The signatures so far: a pushed ranker, which holds its own, or the folder of an earlier --out.",
        ),
    ],
    output: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Where all signatures are written.")],
    as_json: Json = False,
) -> None:
    """Sign items that came after the training, from their features; those that are signed keep their signatures."""
    with err().status("Signing items …"):
        from features import arrow, storage
        from serving.user_stores.bse.item_signatures import load_signatures, sign_new_items

        if not storage.is_file(items):
            raise InputError(f"--items: {items} is no file. Give the Parquet file of the new items.")
        before, table = load_signatures(signatures), arrow.read_parquet(items)
        after = sign_new_items(two_tower, before, table)
        after.save(output)
    new = len(after.item_ids) - len(before.item_ids)
    told = {"new": new, "signed_before": len(table) - new, "items": len(after.item_ids)}
    if as_json:
        print(json.dumps(told, indent=2))
        return
    out().print(
        f"{output}: {new:,} new items signed, {told['signed_before']:,} keep the signature that they had, "
        f"{told['items']:,} signatures in all",
        soft_wrap=True,
    )


@bse.command()
def build(
    model: Model,
    behaviors: Annotated[
        str, typer.Option("--behaviors", "-b", metavar="FOLDER", help="Raw behaviour log (behaviors-*.parquet).")
    ],
    store: Store,
    precision: Annotated[Literal["fp32", "fp16", "int8"], typer.Option(help="Of the sums in the store.")] = "fp32",
    as_of: Annotated[
        int | None,
        typer.Option(
            "--as-of",
            metavar="MILLISECONDS",
            help="Build the tables of requests at this time (UTC); by default just after the newest behaviour.",
        ),
    ] = None,
    signatures: Signatures = None,
    force: Annotated[bool, typer.Option("--force", help="Build even if nothing has changed.")] = False,
    as_json: Json = False,
) -> None:
    """Build every user's table for an exported ranker, and publish it as the store's current version."""
    with err().status("Building bucket tables …"):
        from serving.user_stores.bse.table_job import SavedModelBehaviorEncoder, build_behavior_tables

        SavedModelBehaviorEncoder(model, signatures)  # a ranker without tables is refused before anything runs
        built = build_behavior_tables(
            model, behaviors, store, precision=precision, as_of=as_of, signatures=signatures, force=force
        )
    if as_json:
        print(json.dumps(built, indent=2))
        return
    what = "built" if built["built"] else "nothing has changed since it was built"
    out().print(
        f"{store}: version {built['version']}, {what}: {built['users']:,} users with a table, "
        f"{built['users_without']:,} without a long history, {built['behaviors']:,} behaviours of {built['items']:,} "
        f"items ({built['unknown_behaviors']:,} without a signature), {built['payload_bytes']:,} bytes in "
        f"{built['precision']}",
        soft_wrap=True,
    )


@bse.command()
def get(
    store: Store,
    user: User,
    user_type: AsInt = "string",
    version: Version = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole table as JSON.")] = False,
) -> None:
    """Show a user's table; exit code 1 if the user has none."""
    from serving.user_stores.bse.store import BseStore

    with BseStore(store, version) as opened:
        table, held = opened.get(user_id(user, user_type)), opened.version
    if table is None:
        raise RunError(f"{store}: the {user_type} user {user} has no long history in version {held}.")
    if as_json:
        whole = {"version": held, "user": user, "counts": table.counts.tolist(), "sums": table.sums.tolist()}
        print(json.dumps(whole))
        return
    import numpy as np
    from rich.table import Table

    shown = Table("group", "behaviours in each bucket", "length of its sum")
    for group, (counts, sums) in enumerate(zip(table.counts, table.sums, strict=True)):
        lengths = " ".join(f"{length:.2f}" for length in np.linalg.norm(sums, axis=1))
        shown.add_row(str(group), " ".join(map(str, counts)), lengths)
    out().print(shown)
    out().print(f"{int(table.counts[0].sum()):,} behaviours, width {table.dim}, version {held}")


@bse.command()
def append(
    store: Store,
    model: Model,
    user: User,
    behavior: Annotated[
        str,
        typer.Option(
            "--behavior",
            "-b",
            help='Raw history features and time as JSON, e.g. \'{"item_id": "i7", "timestamp": 1700000000000}\'.',
        ),
    ],
    user_type: AsInt = "string",
    signatures: Signatures = None,
    expire: Annotated[bool, typer.Option("--expire", help="Take the behaviour out instead.")] = False,
) -> None:
    """Add a behaviour to a user's table; the ranker of the store's version embeds and signs it."""
    values = _read_behavior(behavior)
    with err().status("Loading the model …"):
        from serving.user_stores.bse.store import BseStore
        from serving.user_stores.bse.table_job import SavedModelBehaviorEncoder, encode_behavior

        encoder = SavedModelBehaviorEncoder(model, signatures)
        # The version is the encoder's: a store of another ranker refuses it.
        with BseStore(store, encoder.version) as opened:
            encoded = encode_behavior(encoder, values, opened.header.get("as_of"))
            if encoded is None:
                raise RunError("the ranker knows no signature of this item: it is not added to tables.")
            owner = user_id(user, user_type)
            try:
                (opened.expire if expire else opened.append)(owner, *encoded)
            except InputError:
                raise
            except ValueError as error:
                raise RunError(f"user {user}: {error}") from error
            table = opened.get(owner)
    count = 0 if table is None else int(table.counts[0].sum())
    out().print(f"{store}: user {user} has {count:,} behaviours in version {encoder.version}", soft_wrap=True)


@bse.command()
def verify(store: Store, version: Version = None, as_json: Json = False) -> None:
    """Read every record and check sizes, checksums, counts and sums; exit code 1 if one is wrong."""
    from serving.user_stores.bse.store import BseStore

    with err().status("Verifying …"), BseStore(store, version) as opened:
        found = opened.verify()
        held, precision = opened.version, opened.layout.precision
    tell_verification(store, held, found, as_json, precision)


def tell_verification(
    store: Path, version: str, found: Verification, as_json: bool, precision: str | None = None
) -> NoReturn:
    """Prints what the check of a store found, and ends the command: with 1 if it found a fault."""
    from dataclasses import asdict

    held_in = {} if precision is None else {"precision": precision}
    if as_json:
        print(json.dumps({"version": version, **held_in, **asdict(found)}, indent=2))
    else:
        size = f"{found.num_bytes:,} bytes" + (f" in {precision}" if precision else "")
        out().print(
            f"{store}: version {version}, {found.users:,} users, {found.behaviors:,} behaviours, {size}: "
            f"{found.num_faults:,} faults",
            soft_wrap=True,
        )
        for user, what in found.faults:
            out().print(f"  user {user}: {what}", soft_wrap=True, markup=False)
    raise typer.Exit(1 if found.num_faults else 0)


def user_id(text: str, kind: str) -> str | int:
    """Returns a user's id as the log holds it. Raises `InputError` for text that is no integer."""
    if kind == "string":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--user: {text!r} is no integer.") from None


def _read_behavior(text: str) -> dict:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--behavior: not valid JSON: {error}.") from None
    if not isinstance(values, dict):
        raise InputError("--behavior must be an object of history features.")
    return values
