"""`clickmill serve reload`: servers that run go over to what `serve config` wrote, without a request that fails."""

from __future__ import annotations

from typing import Annotated

import typer

from features.errors import InputError
from pipeline.cli.console import err, out


def reload(
    addresses: Annotated[
        list[str], typer.Option("--address", "-a", metavar="HOST:PORT", help="gRPC of a server; once for each.")
    ],
    deploy: Annotated[
        str, typer.Option("--deploy", metavar="FOLDER", help="What `clickmill serve config` wrote.")
    ] = "deploy",
    timeout: Annotated[float, typer.Option(min=1.0, metavar="SECONDS", help="For each step of each server.")] = 300.0,
    authority: Annotated[
        str | None, typer.Option("--ca", metavar="FILE", help="By which the server's certificate is known (TLS).")
    ] = None,
    certificate: Annotated[
        str | None, typer.Option("--cert", metavar="FILE", help="Own certificate, where the server asks for one.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="FILE", help="Key of the own certificate.")] = None,
) -> None:
    """Switch servers that run to a written deployment: load, move the labels, retire; or go back whole."""
    from features import storage
    from serving.deploy.served import read_config

    path = storage.join(deploy, "server", "models.config")
    if not storage.is_file(path):
        raise InputError(f"{path}: no such file. `clickmill serve config --out {deploy}` writes it.")
    if bad := [each for each in addresses if not each.rpartition(":")[2].isdecimal()]:
        raise InputError(f"an address is HOST:PORT. Received: {bad[0]}")
    if bool(certificate) != bool(key) or (certificate and not authority):
        raise InputError("--cert goes with --key, and both with --ca.")
    after, base = read_config(path)
    before = [read_config(each)[0] for each in storage.entries(storage.join(deploy, "reload"), "1-*.config")]
    # Their labels and models are all that the servers may hold beside what they are to serve.
    names = {name for served in before for name in served}
    labels = {"stable", "canary", *(label for served in before for model in served.values() for label in model.labels)}
    with err().status("Switching …"):
        from serving.deploy.reload import Certificates, RunningServer, switch

        credentials = Certificates(authority, certificate, key)
        servers = [RunningServer(address, base, credentials.channel(address)) for address in addresses]
        switched = switch(servers, after, names, labels, timeout, lambda line: err().print(line, markup=False))
    told = f"{switched} of {len(servers)} servers switched" if switched else "every server serves this already"
    out().print(f"{deploy}: {told}", soft_wrap=True, markup=False)
