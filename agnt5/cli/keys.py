"""`agnt5 keys`, and what `agnt5 doctor` says of keys."""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict

from agnt5.cli.output import Cell, columns, hint, line, print_json
from agnt5.cli.place import chosen_url
from agnt5.client import Client
from agnt5.client.key_use import KeyUse, key_uses, reseal
from agnt5.contracts.errors import InvalidInputError
from agnt5.contracts.readers import read_payload_keys


def new_key(key_id: str) -> None:
    """`agnt5 keys new`."""
    written = f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}"
    try:
        read_payload_keys(written)
    except ValueError as error:
        raise InvalidInputError(f"{key_id!r} is no id of a key: {error}") from None
    sys.stdout.write(f"{written}\n")
    hint("put it before the others in AGNT5_PAYLOAD_KEYS, once all processes have it behind them")


def list_keys(url: str | None, *, json: bool) -> None:
    """`agnt5 keys list`."""
    with Client(chosen_url(url)) as client:
        uses: list[KeyUse] = client.call(key_uses)
    if json:
        print_json([asdict(use) for use in uses])
    elif not uses:
        line("no keys, and nothing is stored")
    else:
        print_uses(uses)


def reseal_entities(url: str | None) -> None:
    """`agnt5 keys reseal`."""
    with Client(chosen_url(url)) as client:
        if not client.settings.seals:
            raise InvalidInputError("there is no key to seal with: set AGNT5_PAYLOAD_KEYS or AGNT5_PAYLOAD_KEYS_FILE")
        replaced: int = client.call(reseal)
    line((f"sealed {replaced} values anew" if replaced else "nothing to seal anew", "ok"))


def print_uses(uses: Sequence[KeyUse]) -> None:
    """A line a key, and which of them nothing needs."""
    rows: list[list[str | Cell]] = [
        [(title, "bold") for title in ("KEY", "OPEN RUNS", "ENTITIES", "ENDED RUNS", "")],
        *(
            [use.key_id or "(in clear)", *map(str, (use.open_runs, use.entities, use.ended_runs)), _said(use)]
            for use in uses
        ),
    ]
    columns(rows)


def _said(use: KeyUse) -> str | Cell:
    if not use.key_id:
        return ""
    if not use.known:
        return "not known here", "error"
    if use.seals:
        return "seals"
    if use.open_runs or use.entities:
        return "in use"
    return "only ended runs use it" if use.ended_runs else ("can be retired", "ok")
