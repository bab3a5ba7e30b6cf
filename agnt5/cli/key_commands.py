"""`agnt5 keys`: how its commands are typed. What they do is in `keys.py`, loaded when one runs."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = {"help_option_names": ["-h", "--help"]}
keys = typer.Typer(
    help="Make payload keys, list what uses them, and seal entities anew.", no_args_is_help=True, context_settings=_HELP
)


@keys.command()
def new(key_id: Annotated[str, typer.Argument(metavar="ID", help="Its id: letters, digits, _ and -.")] = "k1") -> None:
    """Print a new random key, as AGNT5_PAYLOAD_KEYS takes it."""
    from agnt5.cli import keys as commands  # noqa: PLC0415

    commands.new_key(key_id)


@keys.command("list")
def list_(ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the keys by what they have sealed; one that nothing needs any more can be retired."""
    from agnt5.cli import keys as commands  # noqa: PLC0415

    commands.list_keys(ctx.obj, json=json)


@keys.command()
def reseal(ctx: typer.Context) -> None:
    """Seal the state of all entities with the first key, where another one or none did."""
    from agnt5.cli import keys as commands  # noqa: PLC0415

    commands.reseal_entities(ctx.obj)
