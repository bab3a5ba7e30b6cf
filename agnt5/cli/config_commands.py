"""`agnt5 config`: how its commands are typed. What they do is in `config.py`, loaded when one runs."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = {"help_option_names": ["-h", "--help"]}
config = typer.Typer(
    help="Set, show and explain config values and feature flags.", no_args_is_help=True, context_settings=_HELP
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key of config.", show_default=False)]
By = Annotated[str | None, typer.Option("--by", help="Who changes it; default: who is logged in here.")]
Comment = Annotated[str, typer.Option(help="Why; it stays in the history.")]
When = Annotated[
    list[str] | None,
    typer.Option(metavar="HEADER=VALUE", help="Only for runs with this header; may be repeated."),
]


@config.command("set")
def set_(  # noqa: PLR0913, PLR0917 - what there is to say about a value
    ctx: typer.Context,
    key: Key,
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="JSON, or else text.", show_default=False)
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(metavar="NAME=WEIGHT,...", help="An experiment, in place of a value: control=50,treatment=50."),
    ] = None,
    rollout: Annotated[float | None, typer.Option(help="The value is for this percentage of units.")] = None,
    otherwise: Annotated[
        str | None, typer.Option(metavar="VALUE", help="With --rollout: what the others get, in place of the default.")
    ] = None,
    when: When = None,
    comment: Comment = "",
    by: By = None,
) -> None:  # fmt: skip
    """Set a value for the whole fleet. It prints what VALUE was taken for.

    true, 25, [1, 2] and {"a": 1} are JSON, everything else is text; '"25"' is text, too. A negative number needs --
    before it: agnt5 config set KEY -- -5
    """
    from agnt5.cli import config as commands  # noqa: PLC0415

    commands.set_config(
        ctx.obj, key, value, variants=variants, rollout=rollout, otherwise=otherwise, when=when or [], comment=comment,
        by=by,
    )  # fmt: skip


@config.command()
def get(ctx: typer.Context, key: Key, json: Json = False) -> None:
    """Show what is set for a key, where, and by whom."""
    from agnt5.cli import config as commands  # noqa: PLC0415

    commands.show_config(ctx.obj, key, json=json)


@config.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """List all that is set in Redis."""
    from agnt5.cli import config as commands  # noqa: PLC0415

    commands.list_configs(ctx.obj, json=json)


@config.command()
def unset(ctx: typer.Context, key: Key, comment: Comment = "", by: By = None) -> None:
    """Take a key out of Redis: environment and defaults count again."""
    from agnt5.cli import config as commands  # noqa: PLC0415

    commands.unset_config(ctx.obj, key, comment=comment, by=by)


@config.command()
def history(
    ctx: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Default: all keys.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    json: Json = False,
) -> None:
    """List who changed what, the latest change first."""
    from agnt5.cli import config as commands  # noqa: PLC0415

    commands.show_history(ctx.obj, key, limit=limit, json=json)


@config.command()
def explain(
    ctx: typer.Context,
    key: Key,
    unit: Annotated[str | None, typer.Option(help="A root run's id, or what handlers give as unit.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header k=v; may be repeated.")] = None,
    json: Json = False,
) -> None:
    """Say what a run tree or unit would get of a key now, and why."""
    from agnt5.cli import config as commands  # noqa: PLC0415

    commands.explain_config(ctx.obj, key, unit=unit, headers=header or [], json=json)
