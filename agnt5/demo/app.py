"""The Celery app of the demo: `celery -A agnt5.demo.app worker`."""

from agnt5.app import create_app

app = create_app(modules=["agnt5.demo.folder", "agnt5.demo.deployment"])
