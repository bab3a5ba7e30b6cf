"""The workers of this deployment: `celery -A workers worker`. Each module below is a service."""

from agnt5.app import create_app

MODULES = ("workers.analytics", "workers.docs", "workers.orders")

app = create_app(modules=MODULES, name="workers")
