"""From addresses on a command line to the transports that dial them, or listen there."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from actorq.cli.credentials import authority
from actorq.cli.exits import Exit, Failure, usage
from actorq.contracts.transport import Transport
from actorq.system.backends import open_transports
from actorq.system.remote import MAX_MESSAGE
from actorq.transports.addresses import Address

DEFAULT_URL = "ws://127.0.0.1:7717"


def several(option: str, urls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses of an option, also those between which there are commas.

    Raises:
        Failure: There is none.
    """
    found = tuple(url for text in urls for part in text.split(",") if (url := part.strip()))
    if not found:
        raise Failure(f"{option}: there is no address in it", Exit.USAGE)
    return found


def dialled(
    urls: tuple[str, ...], ca: Path | None, *, insecure: bool, secret: bool
) -> Sequence[Transport]:
    """Return what dials the addresses.

    Raises:
        Failure: One of them, or the certificate, cannot be; or there is a secret to show, and
            others could read it on the way.
    """
    addresses = several("--url", urls)
    made = transports(addresses, MAX_MESSAGE, authority(ca), "--ca", insecure=insecure)
    for address in addresses:
        if secret and not insecure and _exposed(address):
            raise Failure(
                f"the token could be read by everybody on the way to {address}: use wss://, or "
                "say --insecure if something else encrypts",
                Exit.USAGE,
            )
    return made


def transports(
    addresses: Sequence[str],
    max_message: int,
    tls: ssl.SSLContext | None,
    option: str,
    *,
    insecure: bool,
    open_to_all: bool = False,
) -> list[Transport]:
    """Return the transports of addresses, of which some may be encrypted and some not.

    Raises:
        Failure: One of them cannot be, or ``option``, where ``tls`` is from, is for none of them.
    """
    if tls is not None and not any(map(_encrypted, addresses)):
        raise Failure(f"{option} is for wss:// addresses, and there is none", Exit.USAGE)
    made: list[Transport] = []
    for address in addresses:
        # An address that cannot be read may hold a password.
        with usage("" if "@" in address else address):
            made += open_transports(
                address,
                max_message,
                tls=tls if _encrypted(address) else None,
                insecure=insecure,
                open_to_all=open_to_all,
            )
    return made


def _exposed(address: str) -> bool:
    return address.lower().startswith("ws:") and Address.parse(address).exposed


def _encrypted(address: str) -> bool:
    return address.lower().startswith("wss:")
