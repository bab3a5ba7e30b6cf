"""A shop's support agent: it looks orders up, pays money back if a person agrees, and hands invoices to a colleague.

    agnt5 dev -A examples.agent

and in another terminal of the same folder:

    agnt5 start agent.support message='Where is order 17?' conversation=ann --wait
    agnt5 start agent.support message='It is broken, I want my money back.' conversation=ann --id refund-1
    agnt5 approvals decide refund-1 refund approved --as eve --role lead
    agnt5 runs show refund-1
    agnt5 start agent.support message='And I need an invoice.' conversation=ann --wait
    agnt5 entities show Conversation ann

Without a key a script plays the models. With OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY in the environment of
`agnt5 dev` real ones answer, and nothing else changes (pip install 'agnt5-celery[llm]').
"""

import json
import os
import re
from datetime import timedelta

from agnt5 import Agent, Context, function
from agnt5.app import create_app
from agnt5.llm.scripted import call, scripted_model

ORDERS = {
    "17": {"item": "teapot", "cents": 2900, "status": "delivered yesterday"},
    "18": {"item": "kettle", "cents": 5400, "status": "on its way, expected on Friday"},
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
    number = re.findall(r"\b\d+\b", " ".join(text(message) for message in messages if message["role"] == "user"))
    if not number:
        return "Gladly. What is the number of your order?"
    if "invoice" in wish:
        return invoice(results, number[-1], [tool.name for tool in tools])
    if "lookup_order" not in results:
        return call("lookup_order", order_id=number[-1])
    order = json.loads(results["lookup_order"])
    if "error" in order:
        return f"I am sorry, {order['error']}. Is the number right?"
    if "money" not in wish:
        return f"Your {order['item']} (order {number[-1]}) is {order['status']}."
    if "refund" not in results:
        return call("refund", order_id=number[-1], cents=order["cents"])
    paid = f'"payment": "refund-{number[-1]}"' in results["refund"]
    return f"{order['cents'] / 100:.2f} are on their way to you." if paid else "I am sorry, that was not agreed to."


def invoice(results, order_id, tools):
    if "send_invoice" not in tools:
        return call("transfer_to_billing")
    if "send_invoice" not in results:
        return call("send_invoice", order_id=order_id)
    return f"This is billing. The invoice of order {order_id} is in your mail."


def latest(messages):
    """The user's latest message in lower case, and what tools have given since, by name."""
    wish, results, names = "", {}, {}
    for message in messages:
        if message["role"] == "user":
            wish, results = text(message).lower(), {}
        names |= {one["id"]: one["function"]["name"] for one in message.get("tool_calls") or ()}
        if message["role"] == "tool":
            results[names[message["tool_call_id"]]] = text(message)
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
    description="knows invoices and taxes",
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
)

support.as_workflow()  # agent.support: starts as any workflow does, and survives what workflows survive

app = create_app()
