"""Agents: a model with instructions, tools, colleagues to hand over to, and a memory. Thin, on top of `ctx.llm`."""
