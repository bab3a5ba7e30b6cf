"""`python -m agnt5.cli`."""

from agnt5.cli.main import app

app()
