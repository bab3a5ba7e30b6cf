"""A shop on Flask that starts workflows and shows where they stand.

    flask --app examples/flask_app.py run

Redis is where AGNT5_REDIS_URL says. The worker of `orders.fulfil` is another process: celery -A workers worker
"""

from flask import Flask, request

from agnt5 import Client, InvalidInputError, RunEndedError, RunNotFoundError

app = Flask(__name__)
client = Client()  # thread-safe; connects on first use, and anew in each forked server process


@app.put("/orders/<order_id>")
def place(order_id: str):
    """The order's number is the run's id: placed twice, it is one order."""
    given = {"order_id": order_id, "items": request.get_json()["items"]}
    run = client.start("orders.fulfil", given, id=f"order-{order_id}")
    return {"run": run.id}, 202


@app.get("/orders/<order_id>")
def show(order_id: str):
    state = client.state(f"order-{order_id}")
    return {"status": state.status, "result": state.result, "error": state.error and state.error["message"]}


@app.post("/orders/<order_id>/paid")
def paid(order_id: str):
    """A payment service calls this, maybe more than once: with one `operation` it counts once."""
    payment = request.get_json()
    client.signal(f"order-{order_id}", "paid", payment, operation=payment["id"])
    return "", 204


@app.errorhandler(InvalidInputError)
def wrong(error: InvalidInputError):
    return {"error": str(error)}, 422


@app.errorhandler(RunNotFoundError)
def missing(_: RunNotFoundError):
    return {"error": "no such order"}, 404


@app.errorhandler(RunEndedError)
def too_late(_: RunEndedError):
    return {"error": "this order is closed"}, 409
