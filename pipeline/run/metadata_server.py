"""Where ML Metadata is kept: a file for one machine, or a database server that several workers reach."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from features import storage
from features.config import nearest
from features.errors import InputError

#: Of a server's URI: what ML Metadata calls it, and the port that it listens on by default.
KINDS = {"postgresql": 5432, "mysql": 3306}
PASSWORD = "CLICKMILL_METADATA_PASSWORD"
#: The file in a run's folder.
SQLITE_FILE = "metadata.sqlite"


@dataclass(frozen=True)
class MetadataServer:
    """A database of a server.

    Attributes:
      kind: `postgresql` or `mysql`.
      host, port: where it listens.
      database: its name; it is there already.
      user: who may make tables in it.
      password: of the user; '' where the server asks for none.
    """

    kind: str
    host: str
    port: int
    database: str
    user: str
    password: str


def read_server(metadata: storage.AnyPath) -> MetadataServer | None:
    """Returns the database that a URI names; None for the path of a file, and for a run's own file wherever it lies.

    Raises:
      InputError: for a URI of another scheme, or one that names no host, user or database.
    """
    text = os.fspath(metadata)
    # A pipeline is also made for orchestrators that keep ML Metadata themselves, with its run on an object store.
    if "://" not in text or text.endswith(f"/{SQLITE_FILE}"):
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(f"the URI of ML Metadata cannot be read: {error}.") from error
    shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"  # Without the password.
    if parts.scheme not in KINDS:
        known = " or ".join(KINDS)
        raise InputError(
            f"{shown}: ML Metadata is a local file, or a database of {known}.{nearest(parts.scheme, KINDS)}"
        )
    database = parts.path.strip("/")
    if not (parts.hostname and parts.username and database) or "/" in database:
        raise InputError(f"{shown}: a database of ML Metadata is named as {parts.scheme}://user@host/database.")
    password = os.environ.get(PASSWORD, "") if parts.password is None else unquote(parts.password)
    user = unquote(parts.username)
    return MetadataServer(parts.scheme, parts.hostname, port or KINDS[parts.scheme], database, user, password)
