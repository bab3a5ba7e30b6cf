"""`agnt5 entities`: how its commands are typed. What they do is in `entities.py`, loaded when one runs."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = {"help_option_names": ["-h", "--help"]}
entities = typer.Typer(help="List, show, call and delete entities.", no_args_is_help=True, context_settings=_HELP)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Type = Annotated[str, typer.Argument(metavar="TYPE", help="A type of entities.", show_default=False)]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The entity's key.", show_default=False)]


@entities.command("list")
def list_(
    ctx: typer.Context,
    entity_type: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="Only of this type.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    json: Json = False,
) -> None:
    """List entities that have state, the latest change first."""
    from agnt5.cli import entities as commands  # noqa: PLC0415

    commands.list_entities(ctx.obj, entity_type, limit=limit, json=json)


@entities.command()
def show(ctx: typer.Context, entity_type: Type, key: Key, json: Json = False) -> None:
    """Show an entity: its state, who holds its lock, who waits for it, and its latest calls."""
    from agnt5.cli import entities as commands  # noqa: PLC0415

    commands.show_entity(ctx.obj, entity_type, key, json=json)


@entities.command()
def call(
    ctx: typer.Context,
    entity_type: Type,
    key: Key,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="What to call.", show_default=False)],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JSON | KEY=VALUE ...]", help="The input; - reads standard input.", show_default=False),
    ] = None,
    run_id: Annotated[str | None, typer.Option("--id", help="Id of the call; the same id is the same call.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait at most.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header k=v; may be repeated.")] = None,
) -> None:  # fmt: skip
    """Call a method of an entity, and print its result."""
    from agnt5.cli import entities as commands  # noqa: PLC0415

    commands.call(
        ctx.obj, (entity_type, key, method), words or [], run_id=run_id, timeout=timeout, headers=header or []
    )


@entities.command()
def delete(ctx: typer.Context, entity_type: Type, key: Key) -> None:
    """Delete an entity's state for good, unless a write runs now."""
    from agnt5.cli import entities as commands  # noqa: PLC0415

    commands.delete(ctx.obj, entity_type, key)
