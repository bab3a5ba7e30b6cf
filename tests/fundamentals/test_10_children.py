"""Lesson 10. Runs start runs: child workflows, and children that nobody waits for at once."""

from agnt5 import Client, Context, function, workflow


@function
async def word_count(ctx: Context, text: str) -> int:
    return len(text.split())


@workflow
async def chapter(ctx: Context, pages: list[str]) -> int:
    return sum(await ctx.parallel(*(ctx.task(word_count, text=page) for page in pages)))


@workflow
async def book(ctx: Context, chapters: list[list[str]]) -> list[int]:
    return [await ctx.task(chapter, pages=pages) for pages in chapters]


@function
async def index(ctx: Context, texts: list[str]) -> dict:
    handles = [ctx.spawn(word_count, text, key=f"text-{at}") for at, text in enumerate(texts)]
    counts = [await handle.result() for handle in handles]
    return {"counts": counts, "ids": [handle.id for handle in handles]}


@function
async def twice_the_same_key(ctx: Context) -> list:
    first = ctx.spawn(word_count, "a b", key="same")
    second = ctx.spawn(word_count, "a b", key="same")
    return [first.id == second.id, await first, await second]


@workflow
async def who_am_i(ctx: Context) -> dict:
    child = ctx.task(tell, key="teller")
    return {"child": child.id, "told": await child}


@function
async def tell(ctx: Context) -> list:
    return [ctx.run_id, ctx.step_id, ctx.headers().get("Tenant")]


def test_workflows_call_workflows(client: Client):
    assert client.start(book, {"chapters": [["a b", "c"], ["d"]]}).result(timeout=20) == [3, 1]


def test_a_function_spawns_children_and_waits_for_them(client: Client):
    run = client.start(index, {"texts": ["a b c", "d"]})
    assert run.result(timeout=20) == {"counts": [3, 1], "ids": [f"{run.id}~text-0", f"{run.id}~text-1"]}


def test_a_key_names_one_child(client: Client):
    assert client.start(twice_the_same_key).result(timeout=20) == [True, 2, 2]


def test_children_inherit_headers_and_have_ids_under_their_parents(client: Client):
    run = client.start(who_am_i, headers={"tenant": "blue"})
    child = f"{run.id}~teller"
    assert run.result(timeout=20) == {"child": child, "told": [child, "teller", "blue"]}
    assert client.get(child).status() == "completed"
