"""A shop's support agent: it looks orders up, pays money back if a person agrees, and hands invoices to a colleague.

    agnt5 dev -A examples.agent                       # a worker, a beat, pages, an embedded Valkey
    python examples/agent.py ann                      # in another terminal: talk to it, as ann

Ask where order 17 is, then for your money back, then for an invoice. What it does stands in the pages and in
`agnt5 runs list`, what it remembers in `agnt5 entities show Conversation ann`. Kill the worker while it waits for a
person: it goes on where it was.

Without a key a script plays the models. With OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY in the environment of
`agnt5 dev` real ones answer, and nothing else changes (pip install 'agnt5-celery[llm]').
"""

import json
import os
import re
import sys
from datetime import timedelta

from agnt5 import Agent, Client, Context, ResultTimeoutError, function
from agnt5.app import create_app
from agnt5.llm.scripted import call, scripted_model

ORDERS = {
    "17": {"item": "teapot", "cents": 2900, "status": "was delivered yesterday"},
    "18": {"item": "kettle", "cents": 5400, "status": "is on its way and comes on Friday"},
}


# ---- what the agents can do


@function(retries=5)
async def lookup_order(ctx: Context, order_id: str) -> dict:
    """Look an order up: what was bought, for how many cents, and where the parcel is."""
    return ORDERS.get(order_id, {"error": f"there is no order {order_id}"})


@function(retries=5, timeout=timedelta(seconds=30))
async def refund(ctx: Context, order_id: str, cents: int) -> dict:
    """Pay money back for an order."""
    return {"payment": f"refund-{order_id}", "cents": cents}  # call your payment provider here


@function(retries=5)
async def send_invoice(ctx: Context, order_id: str) -> dict:
    """Send the invoice of an order to the customer's mail address."""
    return {"sent": f"invoice-{order_id}.pdf"}


# ---- the script, for those without a key: it plays both agents


def clerk(messages, tools):
    """What a model would do, for three wishes."""
    wish, results = latest(messages)
    order_id = (re.findall(r"\b\d+\b", " ".join(text(one) for one in messages if one["role"] == "user")) or [""])[-1]
    if not order_id:
        return "Gladly. What is the number of your order?"
    if "invoice" in wish:
        return write_invoice(results, order_id, [tool.name for tool in tools])
    if "lookup_order" not in results:
        known = any(tool.name == "lookup_order" for tool in tools)
        return call("lookup_order", order_id=order_id) if known else call("transfer_to_support")
    if "error" in (order := results["lookup_order"]):
        return f"I am sorry, {order['error']}. Is the number right?"
    return pay_back(results, order_id, order) if "money" in wish else f"Your {order['item']} {order['status']}."


def pay_back(results, order_id, order):
    if "refund" not in results:
        return call("refund", order_id=order_id, cents=order["cents"])
    if "error" in results["refund"]:
        return "I am sorry, my colleague did not agree."
    return f"{order['cents'] / 100:.2f} are on their way to you."


def write_invoice(results, order_id, tools):
    if "send_invoice" not in tools:
        return call("transfer_to_billing")
    if "send_invoice" not in results:
        return call("send_invoice", order_id=order_id)
    return f"This is billing. The invoice of order {order_id} is in your mail."


def latest(messages):
    """The user's latest message in lower case, and what the shop's tools have given since, by name."""
    wish, results, names = "", {}, {}
    for message in messages:
        if message["role"] == "user":
            wish, results = text(message).lower(), {}
        names |= {one["id"]: one["function"]["name"] for one in message.get("tool_calls") or ()}
        if message["role"] == "tool" and text(message).startswith("{"):
            results[names[message["tool_call_id"]]] = json.loads(text(message))
    return wish, results


def text(message):
    return str(message.get("content") or "")


def default_model(stand_in: str) -> str:
    """A model of the provider whose key is there, else the stand-in."""
    for key, model in (
        ("OPENAI_API_KEY", "gpt-5.4-mini"),
        ("ANTHROPIC_API_KEY", "anthropic/claude-haiku-4-5"),
        ("GEMINI_API_KEY", "gemini/gemini-flash-latest"),
    ):
        if os.environ.get(key):
            return model
    return stand_in


# ---- the agents

MODEL = default_model(scripted_model("clerk", clerk))

billing = Agent(
    "billing",
    "You are the billing desk of a tea shop. You send invoices. Answer in one sentence.",
    MODEL,
    tools=[send_invoice],
    handoffs=[lambda: support],  # defined below
    description="sends invoices, and knows nothing else",
)

support = Agent(
    "support",
    "You are the support desk of a tea shop. Look the order up before you say anything about it. "
    "If the customer wants their money back, refund the whole order. Answer in one or two sentences.",
    MODEL,
    tools=[lookup_order, refund],
    approve=["refund"],  # a person decides before it is called
    handoffs=[billing],
    memory=True,
    description="knows orders and parcels, and pays money back",
)

support.as_workflow()  # agent.support: starts as any workflow does, and survives what workflows survive

app = create_app()


# ---- a terminal to talk to it


def talk(conversation: str) -> None:
    with Client() as client:
        while message := input("you: ").strip():
            run = client.start("agent.support", {"message": message, "conversation": conversation})
            try:
                answer = run.result(timeout=3)
            except ResultTimeoutError:
                for asked in client.approvals(run_id=run.id):
                    print(f"(waits for a person: agnt5 approvals decide {run.id} {asked.name} approved --as eve)")
                answer = run.result()
            print(f"{answer['agent']}: {answer['text']}")


if __name__ == "__main__":
    try:
        talk(sys.argv[1] if len(sys.argv) > 1 else "you")
    except (EOFError, KeyboardInterrupt):
        print()
