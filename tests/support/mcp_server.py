"""An MCP server of the official package: run as a program it speaks over stdio."""

from __future__ import annotations

import os
from pathlib import Path

from mcp.server.mcpserver import Image, MCPServer

server = MCPServer("shop", log_level="CRITICAL")


def note(name: str) -> None:
    """An effect outside: a line in the file that the environment names."""
    with Path(os.environ["MCP_NOTES"]).open("a") as notes:
        notes.write(f"{name}\n")


@server.tool()
def add(a: int, b: int) -> dict[str, int]:
    """Adds two numbers."""
    note("add")
    return {"sum": a + b}


@server.tool(name="shop.environment", structured_output=False)
def environment(name: str) -> str:
    return f"it is {os.environ.get(name)}"


@server.tool(structured_output=False)
def picture() -> list[str | Image]:
    return ["a dot", Image(data=b"\x89PNG", format="png")]


if __name__ == "__main__":
    note("started")
    server.run("stdio")
