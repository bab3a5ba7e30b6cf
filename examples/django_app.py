"""A shop on Django that starts workflows and shows where they stand; in one file, to be read from top to bottom.

    python examples/django_app.py runserver --noreload

Redis is where AGNT5_REDIS_URL says. The worker of `orders.fulfil` is another process: celery -A workers worker
"""

import json
import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from agnt5 import Client, InvalidInputError, RunNotFoundError

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "only for this example"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
)
client = Client()  # thread-safe; connects on first use, and anew in each forked server process


@csrf_exempt  # called by programs, which bring no cookie that could be abused
@require_http_methods(["GET", "PUT"])
def order(request: HttpRequest, order_id: str) -> HttpResponse:
    return place(request, order_id) if request.method == "PUT" else show(order_id)


def place(request: HttpRequest, order_id: str) -> HttpResponse:
    """The order's number is the run's id: placed twice, it is one order."""
    given = {"order_id": order_id, "items": json.loads(request.body)["items"]}
    try:
        run = client.start(
            "orders.fulfil", given, id=f"order-{order_id}", requester=str(request.headers.get("X-User", ""))
        )
    except InvalidInputError as error:
        return JsonResponse({"error": str(error)}, status=422)
    return JsonResponse({"run": run.id}, status=202)


def show(order_id: str) -> HttpResponse:
    try:
        state = client.state(f"order-{order_id}")
    except RunNotFoundError:
        return JsonResponse({"error": "no such order"}, status=404)
    error = state.error and state.error["message"]
    return JsonResponse({"status": state.status, "result": state.result, "error": error})


urlpatterns = [path("orders/<order_id>", order)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
