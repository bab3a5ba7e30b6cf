"""What the code blocks of the Context API take for granted: the services and helpers that they call."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from math import prod
from os import environ
from pathlib import Path

import httpx
from support.cluster import note

from agnt5 import NonRetryableError, entity, function

__all__ = [
    "analyze",
    "calculate",
    "call_payment_api",
    "clean_data",
    "datetime",
    "experimental_flow",
    "extract_data",
    "legacy_implementation",
    "make_request",
    "new_implementation",
    "perform_search",
    "process",
    "process_item",
    "process_request",
    "save_to_db",
    "search_web",
    "time",
    "timedelta",
]

NOTES = Path(environ.get("AGNT5_TEST_NOTES", "."))


# ---- services


@function(service="analytics")
async def process_data(ctx, dataset: str):
    return {"dataset": dataset, "rows": 3}


@function(service="analytics")
async def analyze_db(ctx):
    return "db is fine"


@function(service="analytics")
async def analyze_api(ctx):
    return "api is fine"


@function(service="analytics")
async def analyze_cache(ctx):
    return "cache is fine"


@function(service="service1")
async def handler1(ctx):
    return 1


@function(service="service2")
async def handler2(ctx):
    return 2


@function(service="service3")
async def handler3(ctx):
    return 3


@function(service="docs")
async def submit_review(ctx, id: str):  # noqa: A002 - the blocks call it so
    note("submitted", id)


@function(service="docs")
async def publish(ctx, id: str):  # noqa: A002
    note("published", id)


@function(service="svc")
async def task1(ctx):
    return "one"


@function(service="svc")
async def task2(ctx):
    return "" if (NOTES / "task2-is-empty").exists() else "two"


@function(service="service")
async def operation(ctx):
    return "operated"


ChatAgent = entity("ChatAgent")


@ChatAgent.write
async def send_message(ctx, message: str):
    messages = [*await ctx.get("messages", []), message]
    ctx.set("messages", messages)
    return {"reply": f"you said {message}", "messages": len(messages)}


@function(service="ci")
async def run_tests(ctx, version: str):
    return {"passed": version != "broken", "count": 17}


@function(service="deploy")
async def to_production(ctx, version: str):
    note("deployed", version)


# ---- helpers


@function
async def process_item(ctx, item: dict):
    note("items", f"{ctx.run_id.rpartition('~')[2]} {item['id']}")
    return item["id"]


def extract_data(data_id):
    note("steps", f"extract {data_id}")
    return [3, None, 1, 2]


async def make_request(endpoint, api_key):
    """Ask the provider of the tests, with the key as any client sends it."""
    asked = {"model": endpoint, "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {api_key}"}) as client:
        response = await client.post(f"{environ['OPENAI_BASE_URL']}/chat/completions", json=asked)
    if response.is_error:
        raise RequestRefusedError(response.text)
    return response.json()["choices"][0]["message"]["content"]


class RequestRefusedError(NonRetryableError):
    """Fails a run at once."""


def clean_data(raw):
    note("steps", "clean")
    return sorted(one for one in raw if one is not None)


def analyze(cleaned):
    note("steps", "analyze")
    if len((NOTES / "steps").read_text().splitlines()) == 3:
        raise ConnectionError("the first analysis fails")
    return {"sum": sum(cleaned)}


async def new_implementation(data):
    return {"new": data}


async def legacy_implementation(data):
    return {"legacy": data}


async def experimental_flow(data):
    return {"experimental": data}


class UnprocessableError(NonRetryableError):
    """Fails a run at once."""


def process(data):
    if "bad" in data:
        raise UnprocessableError("cannot process bad data")
    return {key: value * 2 for key, value in data.items()}


async def process_request(request):
    await asyncio.sleep(0.005)
    return {"answered": request["id"]}


async def call_payment_api(data):
    return {"paid": data["cents"]}


async def save_to_db(result):
    note("paid", result)


# ---- tools


def perform_search(query: str, max_results: int = 5) -> list[str]:
    note("tools", f"searched {query}")
    return [query] * max_results


async def search_web(query: str) -> list[str]:
    """Search the web."""
    note("tools", f"searched the web for {query}")
    return [f"a page on {query}"]


def calculate(expression: str) -> int:
    """Multiply whole numbers: "2 * 3".

    Args:
        expression: The numbers, with * between them.
    """
    note("tools", f"calculated {expression}")
    return prod(int(number) for number in expression.split("*"))
