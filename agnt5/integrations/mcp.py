"""Tools of MCP servers, for agents and for `ctx.llm.run_tools`; through the official `mcp` package.

files = McpServer("files", command=["uvx", "mcp-server-files", "/srv"])

@function
async def ask(ctx: Context, question: str) -> str:
    tools = await files.tools(ctx, include=["read_file", "list_folder"])
    answer = await ctx.llm.run_tools(question, "gpt-5", tools)
    return answer.text
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST, REQUEST_TIMEOUT
from mcp_types import Tool as ServerTool
from pydantic import SecretStr

from agnt5.contracts.errors import Agnt5Error, InvalidInputError
from agnt5.integrations.mcp_content import Masked, error_of, offered, value_of
from agnt5.integrations.mcp_session import Connection, Connections, Transport, http, stdio
from agnt5.llm.tools import Tool
from agnt5.sdk.context import Context
from agnt5.sdk.keyed import keyed_step

__all__ = ["McpError", "McpServer", "McpToolError"]

T = TypeVar("T")
PAGES = 20


class McpError(Agnt5Error):
    """An MCP server cannot be reached, does not answer in time, or refuses a request."""


class McpToolError(McpError):
    """A tool of an MCP server says that it failed; the message is its own."""


class McpServer:
    """An MCP server, by its command (stdio) or its URL (streamable HTTP). Making one connects to nothing.

    `command` is the program with its arguments; it gets `env` and a few harmless variables of the worker
    (`PATH`, `HOME`, ...), no others, and `cwd` as its folder. `url` is called with `headers`. Values of both may be
    `SecretStr`. No value of either is told in errors or logs, and those of `SecretStr` are masked in results too.
    `timeout` is in seconds, for each request. A connection is shared by all runs on one event loop, and closed after
    `idle` seconds without use. `stderr` is a file for what the command writes there; by default it is dropped.
    """

    def __init__(  # noqa: PLR0913 - two ways to reach a server, each with its own words
        self,
        name: str,
        *,
        command: Sequence[str] | None = None,
        url: str | None = None,
        env: Mapping[str, str | SecretStr] | None = None,
        headers: Mapping[str, str | SecretStr] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
        idle: float = 60.0,
        stderr: str | None = None,
    ) -> None:
        self.name = name
        self._timeout = timeout
        _check(name, command, url, env, headers)
        values = {**(env or {}), **(headers or {})}
        self._masked = Masked(
            [*_secrets(values.values()), *_url_secrets(url)],
            _secrets(value for value in values.values() if isinstance(value, SecretStr)),
        )
        plain_headers = {name: _plain(value) for name, value in (headers or {}).items()}
        plain_env = {name: _plain(value) for name, value in (env or {}).items()}

        def transport(ended: Callable[[], None]) -> Transport:
            if url is not None:
                return http(url, plain_headers, timeout)
            assert command is not None
            program, *arguments = command
            return stdio(StdioServerParameters(command=program, args=arguments, env=plain_env, cwd=cwd), stderr, ended)

        self._connections = Connections(transport, idle_s=idle, timeout=timeout)
        if url is not None and _url_secrets(url):
            _quieten(self._masked)

    def __repr__(self) -> str:
        return f"<McpServer {self.name}>"

    async def tools(
        self,
        ctx: Context,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        prefix: str = "",
    ) -> list[Tool]:
        """The server's tools, to be given to a model: all, or those in `include`, without those in `exclude`.

        What the server lists is recorded as the step `mcp:<server>`: later attempts and replays see the same tools,
        whatever the server has become. Their calls are steps `tool:<prefix><tool>`, made by the tool loop. A dot in a
        name becomes "_". Names, descriptions and schemas are the server's words, which the model reads: give
        `include` for servers that are not your own. What has a bad name or a too large schema is left out and logged;
        long descriptions are cut, invisible characters dropped.
        Raises `McpError` where the server cannot be reached, and `InvalidInputError` for names in `include` that it
        does not have.
        """

        async def listed() -> list[dict[str, Any]]:
            found = await self._use(_list, "its tools", again=True)
            chosen = offered(found, server=self.name, include=include, exclude=exclude, prefix=prefix)
            return self._masked.value(chosen)  # type: ignore[no-any-return]

        asked = json.dumps([include and sorted(include), exclude and sorted(exclude), prefix])
        key = hashlib.sha256(asked.encode()).hexdigest()[:16]  # another choice in a later attempt is another step
        return [self._tool(one) for one in await keyed_step(ctx, f"mcp:{self.name}", key, listed)]

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call a tool by the server's own name for it, here and now; in a handler do it inside `ctx.step`.

        Returns its structured content where it has one, else its text, else a list of `{"type": "text" | "image" |
        "audio" | "resource" | "link", ...}` with binary data in base64. Raises `McpToolError` when the tool says that
        it failed, and `McpError` when the server does not answer. A connection that ended before the call is made
        anew; one that ends during it is not, since the tool may have done its work.
        """

        async def call(client: Client) -> Any:
            return await client.call_tool(tool, dict(arguments or {}), read_timeout_seconds=self._timeout)

        result = await self._use(call, f"tool {tool!r}", again=False)
        if result.is_error:
            raise McpToolError(self._masked.error(error_of(result)))
        return self._masked.value(value_of(result))

    async def close(self) -> None:
        """Close this event loop's connection, if there is one."""
        await self._connections.close()

    # ---- inside

    def _tool(self, recorded: Mapping[str, Any]) -> Tool:
        server_name = recorded["tool"]

        async def call(**arguments: Any) -> Any:
            return await self.call(server_name, arguments)

        call.__name__ = call.__qualname__ = recorded["name"]
        return Tool(name=recorded["name"], description=recorded["description"], schema=recorded["schema"], handler=call)

    async def _use(self, ask: Callable[[Client], Awaitable[T]], what: str, *, again: bool) -> T:
        """Ask the server; `again`: harmless to ask twice."""
        connection, reused = self._connections.get()
        try:
            return await self._ask(connection, ask)
        except Exception as error:  # noqa: BLE001 - each becomes one that tells no secret
            ended = _ended(error)
            if ended:
                connection.stop()
            if not (reused and (_refused(error) or (ended and again))):
                raise self._told(error, what, connection) from None
        connection, _ = self._connections.get()
        try:
            return await self._ask(connection, ask)
        except Exception as error:  # noqa: BLE001 - as above
            raise self._told(error, what, connection) from None

    async def _ask(self, connection: Connection, ask: Callable[[Client], Awaitable[T]]) -> T:
        async with connection.borrowed() as client:
            if not connection.listed and ask is not _list:
                # else the package lists them behind the first call, and a call that was done fails with that
                await _list(client)
            connection.listed = True
            return await ask(client)

    def _told(self, error: Exception, what: str, connection: Connection) -> McpError:
        where = f"MCP server {self.name}, {what}"
        said = self._masked.error(f"{type(error).__name__}: {error}")
        if not connection.connected:
            return McpError(f"{where}: cannot connect: {said}")
        if isinstance(error, TimeoutError) or (isinstance(error, MCPError) and error.code == REQUEST_TIMEOUT):
            return McpError(f"{where}: no answer within {self._timeout:g} s; give McpServer(timeout=...) more")
        if _ended(error):
            return McpError(f"{where}: the connection ended, it is not known what was done ({said})")
        return McpError(f"{where}: {said}")


async def _list(client: Client) -> list[ServerTool]:
    found: list[ServerTool] = []
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _ended(error: Exception) -> bool:
    if isinstance(error, MCPError):
        return error.code == CONNECTION_CLOSED or _refused(error)
    return isinstance(error, anyio.ClosedResourceError | anyio.BrokenResourceError | OSError)


def _refused(error: Exception) -> bool:
    """Whether the server does not know the session any more: it did nothing."""
    return isinstance(error, MCPError) and error.code == INVALID_REQUEST and error.message == "Session terminated"


# ---- secrets


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _secrets(values: Any) -> list[str]:
    """The values, and their words: of "Bearer abc" the "abc" alone is the secret."""
    plain = [_plain(value) for value in values]
    return plain + [word for value in plain for word in value.split() if len(word) >= 12]  # noqa: PLR2004


def _url_secrets(url: str | None) -> list[str]:
    parts = urlsplit(url or "")
    asked = [value for _, value in parse_qsl(parts.query)]
    return [one for one in (*asked, parts.password) if one]


class _Quiet(logging.Filter):
    def __init__(self, masked: Masked) -> None:
        super().__init__()
        self._masked = masked

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._masked.error(record.getMessage()), None
        if record.exc_info:
            record.exc_text = self._masked.error(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


def _quieten(masked: Masked) -> None:
    """The HTTP client logs the URLs of its requests; keys in them are masked."""
    for name in ("httpx2", "mcp.client.streamable_http"):
        logging.getLogger(name).addFilter(_Quiet(masked))


def _check(name: str, command: Any, url: Any, env: Any, headers: Any) -> None:
    if not name.replace("-", "_").isidentifier():
        raise InvalidInputError(f"McpServer({name!r}): expected a short name of letters, digits, - and _")
    if (command is None) == (url is None):
        raise InvalidInputError(f"McpServer({name!r}): expected either command=[...] or url=..., found both or none")
    if command is not None and (isinstance(command, str) or not command):
        raise InvalidInputError(
            f"McpServer({name!r}): expected command=['program', 'argument', ...], found {type(command).__name__}"
        )
    if url is not None and urlsplit(url).scheme not in {"http", "https"}:
        raise InvalidInputError(f"McpServer({name!r}): expected a url with http:// or https://")
    if (env and url is not None) or (headers and command is not None):
        raise InvalidInputError(f"McpServer({name!r}): env= goes with command=, headers= with url=")
