"""Adapters to what others have made: pydantic-ai agents, MCP servers, AG-UI front ends. Each needs its own extra."""
