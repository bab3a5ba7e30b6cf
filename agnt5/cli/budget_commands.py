"""`agnt5 budgets`: how its commands are typed. What they do is in `budgets.py`, loaded when one runs."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = {"help_option_names": ["-h", "--help"]}
budgets = typer.Typer(
    help="List, show and reset what calls of language models have spent.", no_args_is_help=True, context_settings=_HELP
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Scope = Annotated[
    str,
    typer.Argument(
        metavar="BUDGET",
        help="As `list` names it: key:acme, key:acme~86400s, tree:<run>; or a key.",
        show_default=False,
    ),
]


@budgets.command("list")
def list_(
    ctx: typer.Context, limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50, json: Json = False
) -> None:
    """List budgets that have been drawn on, the latest use first."""
    from agnt5.cli import budgets as commands  # noqa: PLC0415

    commands.list_budgets(ctx.obj, limit=limit, json=json)


@budgets.command()
def show(ctx: typer.Context, scope: Scope, json: Json = False) -> None:
    """Show what a budget has spent, and what calls on their way hold of it."""
    from agnt5.cli import budgets as commands  # noqa: PLC0415

    commands.show_budget(ctx.obj, scope, json=json)


@budgets.command()
def reset(ctx: typer.Context, scope: Scope) -> None:
    """Let a budget count from zero again."""
    from agnt5.cli import budgets as commands  # noqa: PLC0415

    commands.reset_budget(ctx.obj, scope)
