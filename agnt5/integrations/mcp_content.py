"""What an MCP server says, made safe and plain: names, descriptions, schemas, results, errors."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from mcp_types import AudioContent, CallToolResult, ContentBlock, EmbeddedResource, ImageContent, ResourceLink
from mcp_types import TextContent as Text
from mcp_types import Tool as ServerTool

from agnt5.contracts.errors import InvalidInputError

logger = logging.getLogger("agnt5.mcp")

NAME_LIMIT = 64
"""Characters of a tool's name with its prefix: what all providers take."""

DESCRIPTION_LIMIT = 4_000
"""Characters of a description; what is longer is cut."""

SCHEMA_LIMIT = 64 * 1024
"""Bytes of a schema as JSON; a tool with a longer one is not offered."""

TOOLS_LIMIT = 256
"""Tools that one server may offer."""

ERROR_LIMIT = 2_000
"""Characters of a server's error that are passed on."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs"})


class Masked:
    """Takes secrets out of texts. `all_values` go from errors, `marked` ones (`SecretStr`) also from all else."""

    def __init__(self, all_values: Iterable[str], marked: Iterable[str]) -> None:
        self._errors = _pattern(all_values)
        self._marked = _pattern(marked)

    def error(self, text: str) -> str:
        """An error's text, without secrets and not too long."""
        shown = text if self._errors is None else self._errors.sub("***", text)
        return shown if len(shown) <= ERROR_LIMIT else f"{shown[:ERROR_LIMIT]}…"

    def value(self, value: Any) -> Any:
        """A JSON value without secrets that are marked as such."""
        marked = self._marked
        return value if marked is None else _mapped(value, lambda text: marked.sub("***", text))


def _pattern(values: Iterable[str]) -> re.Pattern[str] | None:
    # longest first, so that no rest of a longer one stays; short ones would hide ordinary words
    found = sorted({value for value in values if len(value) >= 4}, key=len, reverse=True)  # noqa: PLR2004
    return re.compile("|".join(map(re.escape, found))) if found else None


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _mapped(one, change) for name, one in value.items()}
    return [_mapped(one, change) for one in value] if isinstance(value, list) else value


def visible(text: str) -> str:
    """Without characters that a person who reads it does not see but a model does."""
    return "".join(one for one in text if one in "\n\t" or unicodedata.category(one) not in _INVISIBLE)


def offered(
    tools: Sequence[ServerTool],
    *,
    server: str,
    include: Sequence[str] | None,
    exclude: Sequence[str] | None,
    prefix: str,
) -> list[dict[str, Any]]:
    """The tools to offer to a model, as JSON: `{name, tool, description, schema}`; `tool` is the server's own name.

    Raises `InvalidInputError` for names in `include` that the server does not have or that cannot be offered.
    """
    faults: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for tool in tools[:TOOLS_LIMIT]:
        if (include is not None and tool.name not in include) or tool.name in (exclude or ()):
            continue
        name = f"{prefix}{tool.name}".replace(".", "_")
        fault = _fault(tool, name, found)
        if fault:
            faults[tool.name] = fault
            logger.warning("MCP server %s: a tool is not offered: %s", server, fault)
        else:
            found[name] = _as_json(tool, name)
    asked = [name for name in include or () if name not in (exclude or ())]
    _check_included(asked, found, tools, faults, server)
    return list(found.values())


def _as_json(tool: ServerTool, name: str) -> dict[str, Any]:
    description = visible(tool.description or tool.title or "")
    if len(description) > DESCRIPTION_LIMIT:
        description = f"{description[:DESCRIPTION_LIMIT]}…"
    return {
        "name": name,
        "tool": tool.name,
        "description": description,
        "schema": _mapped(tool.input_schema, visible),
    }


def _fault(tool: ServerTool, name: str, taken: dict[str, Any]) -> str:
    if not _NAME.fullmatch(tool.name) or len(name) > NAME_LIMIT:
        return f"name {tool.name[:80]!r}: expected at most {NAME_LIMIT} of A-Z a-z 0-9 _ - . with the prefix"
    if name in taken:
        return f"name {name!r} is that of another of its tools"
    if tool.input_schema.get("type") != "object":
        return f"{name}: expected a schema of type object, found {str(tool.input_schema.get('type'))[:40]!r}"
    if (size := len(json.dumps(tool.input_schema))) > SCHEMA_LIMIT:
        return f"{name}: its schema has {size:,} bytes, the limit is {SCHEMA_LIMIT:,}"
    return ""


def _check_included(
    asked: Sequence[str],
    found: dict[str, dict[str, Any]],
    tools: Sequence[ServerTool],
    faults: dict[str, str],
    server: str,
) -> None:
    there = {tool["tool"] for tool in found.values()}
    for name in asked:
        if name not in there:
            known = ", ".join(sorted(tool.name for tool in tools if _NAME.fullmatch(tool.name))[:40]) or "none"
            why = faults.get(name, f"the server has no such tool; it has: {known}")
            raise InvalidInputError(f"MCP server {server}: include has {name!r}: {why}")


# ---- results


def value_of(result: CallToolResult) -> Any:
    """A tool's result as JSON: its structured content, else its text, else a list of parts with their `type`."""
    only_text = all(isinstance(block, Text) for block in result.content)
    if result.structured_content is not None and only_text:
        return result.structured_content
    if only_text:
        return "\n".join(block.text for block in result.content if isinstance(block, Text)) if result.content else None
    parts = [_part(block) for block in result.content]
    if result.structured_content is not None:
        return [{"type": "json", "value": result.structured_content}, *parts]
    return parts


def error_of(result: CallToolResult) -> str:
    """What a tool says about its failure."""
    said = "\n".join(block.text for block in result.content if isinstance(block, Text)).strip()
    return said or (
        json.dumps(result.structured_content) if result.structured_content is not None else "no reason given"
    )


def _part(block: ContentBlock) -> dict[str, Any]:
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case ImageContent() | AudioContent():
            return {"type": block.type, "mime_type": block.mime_type, "data": block.data}
        case ResourceLink():
            return {"type": "link", "uri": str(block.uri), "name": block.name, "mime_type": block.mime_type}
        case EmbeddedResource():
            held = block.resource
            body = {"text": held.text} if hasattr(held, "text") else {"data": held.blob}
            return {"type": "resource", "uri": str(held.uri), "mime_type": held.mime_type, **body}
