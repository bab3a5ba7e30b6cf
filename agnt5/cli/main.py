"""The `agnt5` command. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agnt5.cli.budget_commands import budgets
from agnt5.cli.config_commands import config
from agnt5.cli.entity_commands import entities
from agnt5.cli.key_commands import keys
from agnt5.contracts.errors import Agnt5Error


class _Group(TyperGroup):
    """Prints errors that agnt5 raises on purpose as one message, and ends with 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Agnt5Error as error:
            from agnt5.cli.output import fail  # noqa: PLC0415

            fail(error)
            raise SystemExit(1) from None


_HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    cls=_Group,
    help="Durable workflows on Celery and Redis: develop, start, watch and repair runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)
runs = typer.Typer(help="List, show, retry and cancel runs.", no_args_is_help=True, context_settings=_HELP)
app.add_typer(runs, name="runs")
app.add_typer(entities, name="entities")
app.add_typer(budgets, name="budgets")
app.add_typer(config, name="config")
app.add_typer(keys, name="keys")
tokens = typer.Typer(help="Make tokens for the HTTP API.", no_args_is_help=True, context_settings=_HELP)
app.add_typer(tokens, name="tokens")
approvals = typer.Typer(help="List and decide what waits for people.", no_args_is_help=True, context_settings=_HELP)
app.add_typer(approvals, name="approvals")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run id.", show_default=False)]


@app.callback()
def _root(
    ctx: typer.Context,
    redis_url: Annotated[
        str | None,
        typer.Option(
            envvar="AGNT5_REDIS_URL", show_default=False,
            help="Where runs live. Default: the `agnt5 dev` of this folder, then redis://localhost:6379/0.",
        ),
    ] = None,
) -> None:  # fmt: skip
    ctx.obj = redis_url


@app.command()
def dev(  # noqa: PLR0913, PLR0917 - what there is to say about a development server
    ctx: typer.Context,
    worker: Annotated[str, typer.Option("--app", "-A", help="Celery app of the worker: a module, or module:name.")],
    beat: Annotated[str | None, typer.Option("--beat", "-B", help="Celery app of beat; default: the same.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the embedded Valkey; default: 6379 if free.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the embedded Valkey; default: .agnt5/valkey.")] = None,
    reload: Annotated[bool, typer.Option(help="Restart when a source file of this folder changes.")] = True,
    loglevel: Annotated[
        str, typer.Option("--loglevel", "-l", envvar="AGNT5_LOG_LEVEL", help="Log level of worker, beat and pages.")
    ] = "INFO",
    web_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the pages; default: 8080 if free. 0: no pages.")
    ] = None,
    flower: Annotated[bool, typer.Option("--flower", help="Run Flower too.")] = False,
    flower_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of Flower, and run it; default: 5555 if free.")
    ] = None,
) -> None:
    """Run a worker, a beat, the pages and an embedded Valkey here, until Ctrl-C.

    With AGNT5_REDIS_URL or --redis-url that server is used instead of the embedded one.
    """
    from agnt5.cli.dev import Plan, serve  # noqa: PLC0415

    plan = Plan(
        worker=worker, beat=beat or worker, redis_url=ctx.obj, port=port, data=data, reload=reload, level=loglevel,
        web_port=web_port, flower=flower or flower_port is not None, flower_port=flower_port,
    )  # fmt: skip
    raise typer.Exit(serve(plan))


@app.command()
def start(
    ctx: typer.Context,
    handler: Annotated[str, typer.Argument(metavar="SERVICE.HANDLER", help="What to run.", show_default=False)],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JSON | KEY=VALUE ...]", help="The input; - reads standard input.", show_default=False),
    ] = None,
    run_id: Annotated[str | None, typer.Option("--id", help="Run id; the same id is the same run.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the result and print it.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait at most, with --wait.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="A header k=v; may be repeated.")] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT=N,...",
            help="What its models may spend: cost=5,tokens=200000,requests=50; with key= for all that name this key, "
            "with per=SECONDS in each window. May be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:  # fmt: skip
    """Start a run, and print its id (or, with --wait, its result)."""
    from agnt5.cli import commands  # noqa: PLC0415

    commands.start(
        ctx.obj, handler, words or [], run_id=run_id, wait=wait, timeout=timeout, headers=header or [],
        budgets=budget or [],
    )  # fmt: skip


@app.command()
def signal(
    ctx: typer.Context,
    run_id: RunId,
    name: Annotated[str, typer.Argument(help="The signal's name.", show_default=False)],
    payload: Annotated[str | None, typer.Argument(metavar="[JSON]", help="Its payload.", show_default=False)] = None,
) -> None:
    """Send a signal to a run."""
    from agnt5.cli import commands  # noqa: PLC0415

    commands.signal(ctx.obj, run_id, name, payload)


@runs.command("list")
def runs_list(
    ctx: typer.Context,
    status: Annotated[
        str | None, typer.Option(help="queued, running, waiting, completed, failed or cancelled.")
    ] = None,
    handler: Annotated[str | None, typer.Option(help="service.handler")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    json: Json = False,
) -> None:
    """List root runs: open ones first, newest first."""
    from agnt5.cli import commands  # noqa: PLC0415

    commands.list_runs(ctx.obj, status=status, handler=handler, limit=limit, json=json)


@runs.command("show")
def runs_show(
    ctx: typer.Context,
    run_id: RunId,
    journal: Annotated[bool, typer.Option(help="Print the journal, an entry a line.")] = False,
    full: Annotated[bool, typer.Option("--all", help="Tell each task on its own line.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Print what its code has logged, as far as it is kept.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="With --logs: also of all runs that it started.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="With --logs: go on until the run ends.")] = False,
    json: Json = False,
) -> None:
    """Show a run: where it stands, input, result or error, and what happened when."""
    if logs or follow or tree:
        from agnt5.cli.logs import show_logs  # noqa: PLC0415

        show_logs(ctx.obj, run_id, tree=tree, follow=follow, json=json)
        return
    from agnt5.cli import commands  # noqa: PLC0415

    commands.show_run(ctx.obj, run_id, journal=journal, full=full, json=json)


@runs.command("retry")
def runs_retry(ctx: typer.Context, run_id: RunId) -> None:
    """Open a failed run again: what succeeded stands, what failed is done again."""
    from agnt5.cli import commands  # noqa: PLC0415

    commands.retry(ctx.obj, run_id)


@runs.command("cancel")
def runs_cancel(
    ctx: typer.Context, run_id: RunId, reason: Annotated[str, typer.Option(help="Why; it stays in the journal.")] = ""
) -> None:
    """Ask a run and its children to end."""
    from agnt5.cli import commands  # noqa: PLC0415

    commands.cancel(ctx.obj, run_id, reason)


@approvals.command("list")
def approvals_list(
    ctx: typer.Context,
    run_id: Annotated[str | None, typer.Option("--run", help="Of this run only, decided ones too.")] = None,
    role: Annotated[str | None, typer.Option(help="What holders of this role may decide.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    json: Json = False,
) -> None:
    """List approvals that wait for a decision, oldest first."""
    from agnt5.cli.approvals import list_approvals  # noqa: PLC0415

    list_approvals(ctx.obj, run_id=run_id, role=role, limit=limit, json=json)


@approvals.command("decide")
def approvals_decide(
    ctx: typer.Context,
    run_id: RunId,
    name: Annotated[str, typer.Argument(help="The approval's name.", show_default=False)],
    decision: Annotated[str, typer.Argument(metavar="approved|rejected", help="What to say.", show_default=False)],
    approver: Annotated[str | None, typer.Option("--as", help="Who decides; default: who is logged in here.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role that they have; may be repeated.")] = None,
    comment: Annotated[str, typer.Option(help="Why; it stays in the journal.")] = "",
    data: Annotated[str | None, typer.Option(metavar="JSON", help="What the form is filled in with.")] = None,
) -> None:  # fmt: skip
    """Decide an approval. Whoever may run this may decide as anybody: it is for operators."""
    from agnt5.cli.approvals import decide  # noqa: PLC0415

    decide(ctx.obj, run_id, name, decision, approver=approver, roles=role or [], comment=comment, data=data)


@app.command()
def doctor(
    ctx: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what is safe to repair.")] = False,
    settle: Annotated[float, typer.Option(help="Seconds for which something must stay wrong to be reported.")] = 2.0,
    json: Json = False,
) -> None:
    """Check that no run is stuck, that indexes agree with records, and that the server keeps what it is given.

    Ends with 1 when it finds an error.
    """
    from agnt5.cli.doctor import check  # noqa: PLC0415

    raise typer.Exit(check(ctx.obj, fix=fix, settle_s=settle, json=json))


@app.command()
def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of text files; default: agnt5's own.", show_default=False)
    ] = None,
    report: Annotated[Path, typer.Option(help="Where the report goes.")] = Path(".agnt5/demo-report.md"),
    limit: Annotated[int, typer.Option(min=4, help="Analyse at most so many files.")] = 400,
    pace: Annotated[float, typer.Option(min=0, help="Seconds that each analysis is slowed down, to be watched.")] = 0.2,
) -> None:
    """See a workflow survive the SIGKILL of its worker. Starts all that it needs; takes about 20 seconds."""
    from agnt5.cli.demo import Plan, run_demo  # noqa: PLC0415

    raise typer.Exit(run_demo(Plan(folder=folder, report=report, limit=limit, pace_s=pace)))


@app.command()
def web(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    redis: Annotated[str | None, typer.Option(help="Where runs live; as --redis-url.", show_default=False)] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="JSON file of tokens; default: AGNT5_API_TOKENS.", show_default=False)
    ] = None,
    pages: Annotated[bool, typer.Option(help="Serve the pages too.")] = True,
    loglevel: Annotated[str, typer.Option("--loglevel", "-l", envvar="AGNT5_LOG_LEVEL", help="Log level.")] = "INFO",
) -> None:
    """Serve the HTTP API and the pages until Ctrl-C."""
    from agnt5.cli.web import serve  # noqa: PLC0415

    serve(redis or ctx.obj, host=host, port=port, tokens=tokens, pages=pages, level=loglevel)


@tokens.command("new")
def tokens_new(
    name: Annotated[str, typer.Argument(help="Who it is for: a person or a program.", show_default=False)],
    role: Annotated[list[str] | None, typer.Option(help="A role for approvals; may be repeated.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, start, signal, decide or admin; may be repeated. Default: read.")
    ] = None,
) -> None:
    """Print a new token, once, and the entry with its hash for the file of tokens."""
    from agnt5.cli.web import new_token  # noqa: PLC0415

    new_token(name, roles=role or [], scopes=scope or ["read"])


@app.command()
def version() -> None:
    """Print the versions that matter in a bug report."""
    from agnt5.cli import commands  # noqa: PLC0415

    commands.version()
