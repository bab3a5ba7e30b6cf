"""Tools of MCP servers: of the official package over stdio and HTTP, and of one that misbehaves."""

import asyncio
import contextlib
import logging
import sys
import threading
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from support import attempts as kit
from support import mcp_bad_server, mcp_server
from support.secret_values import made
from support.waiting import until

from agnt5.contracts.errors import InvalidInputError
from agnt5.integrations.mcp import McpError, McpServer, McpToolError

SUPPORT = Path(mcp_server.__file__).parent
KEY = made("mcp", prefix="sk-")


@pytest.fixture
def notes(tmp_path):
    return tmp_path / "notes"


@pytest.fixture
async def bad(notes):
    """Makes servers that misbehave, and closes them."""
    made = []

    def make(*arguments, **options):
        env = {"MCP_NOTES": str(notes), **options.pop("env", {})}
        command = [sys.executable, "-S", "-E", str(SUPPORT / "mcp_bad_server.py"), *arguments]
        made.append(McpServer("bad", command=command, env=env, **options))
        return made[-1]

    yield make
    for server in made:
        await server.close()


def lines(notes):
    return notes.read_text().splitlines()


# ---- a real server


async def test_tools_are_listed_once_for_all_attempts_and_called_over_one_connection(notes, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", made("of the worker"))
    command = [sys.executable, str(SUPPORT / "mcp_server.py")]
    server = McpServer("shop", command=command, env={"MCP_NOTES": str(notes), "SHOP": "pears"})
    attempts = kit.Attempts()
    tools = {tool.name: tool for tool in await server.tools(attempts.ctx(), prefix="shop_")}
    assert sorted(tools) == ["shop_add", "shop_picture", "shop_shop_environment"]
    assert tools["shop_add"].description == "Adds two numbers."
    assert sorted(tools["shop_add"].schema["properties"]) == ["a", "b"]
    assert await tools["shop_add"].handler(a=1, b=2) == {"sum": 3}
    assert await asyncio.gather(
        tools["shop_shop_environment"].handler(name="SHOP"),
        tools["shop_shop_environment"].handler(name="OPENAI_API_KEY"),
    ) == ["it is pears", "it is None"]
    words, picture = await tools["shop_picture"].handler()
    assert words == {"type": "text", "text": "a dot"}
    assert picture == {"type": "image", "mime_type": "image/png", "data": "iVBORw=="}
    with pytest.raises(McpToolError, match="valid integer"):
        await tools["shop_add"].handler(a="x", b=2)
    await server.close()
    again = await server.tools(attempts.ctx(), prefix="shop_")
    assert [tool.name for tool in again] == list(tools)
    assert attempts.ran == []
    assert lines(notes) == ["started", "add"]


@contextlib.contextmanager
def over_http(app, port=0):
    """An app on a port, in a thread; gives its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", timeout_graceful_shutdown=0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            threading.Event().wait(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


def with_sessions(sessions, calls):
    """An MCP server of the years with sessions; one that it does not know is a 404."""

    async def answer(request):
        if request.method != "POST":
            return Response(status_code=405)
        asked, session = await request.json(), request.headers.get("mcp-session-id")
        if "id" not in asked:
            return Response(status_code=202)
        if asked["method"] == "initialize":
            sessions.append(f"s-{len(calls)}")
            version, info = asked["params"]["protocolVersion"], {"name": "old", "version": "1"}
            result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
            return JSONResponse(
                {"jsonrpc": "2.0", "id": asked["id"], "result": result}, headers={"mcp-session-id": sessions[-1]}
            )
        if session not in sessions:
            return Response(status_code=404)
        calls.append(session)
        result = {"tools": []} if asked["method"] == "tools/list" else mcp_bad_server.text("done")
        return JSONResponse({"jsonrpc": "2.0", "id": asked["id"], "result": result})

    return Starlette(routes=[Route("/mcp", answer, methods=["GET", "POST", "DELETE"])])


async def test_a_server_that_forgot_the_session_is_asked_anew():
    sessions, calls = [], []
    with over_http(with_sessions(sessions, calls)) as port:
        server = McpServer("old", url=f"http://127.0.0.1:{port}/mcp", timeout=5)
        assert await server.call("x") == "done"
        first = sessions.copy()
        sessions.clear()
        assert await server.call("x") == "done"
        assert sessions != first
        await server.close()


async def test_a_server_over_http_that_started_again_is_asked_again(notes, monkeypatch, caplog):
    monkeypatch.setenv("MCP_NOTES", str(notes))
    caplog.set_level(logging.INFO)
    with over_http(mcp_server.server.streamable_http_app()) as port:
        url = f"http://127.0.0.1:{port}/mcp?api_key={KEY}"
        server = McpServer("shop", url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=5)
        assert await server.call("add", {"a": 1, "b": 2}) == {"sum": 3}
    with pytest.raises(McpError, match="MCP server shop, tool 'add'"):
        await server.call("add", {"a": 1, "b": 2})
    mcp_server.server._session_manager = None
    with over_http(mcp_server.server.streamable_http_app(), port):
        assert await server.call("add", {"a": 2, "b": 2}) == {"sum": 4}
        await server.close()
    assert "HTTP Request" in caplog.text
    assert KEY not in caplog.text


# ---- one that misbehaves


async def test_dubious_tools_are_left_out_and_texts_are_cut_and_cleaned(bad, caplog):
    tools = {tool.name: tool for tool in await bad().tools(kit.Attempts().ctx())}
    assert sorted(tools) == ["die", "echo", "fail", "hang", "leave", "long_winded"]
    assert tools["long_winded"].description.startswith("showxx")
    assert len(tools["long_winded"].description) == 4001
    for fault in ("bad name", "nnnn", "another of its tools", "70,"):
        assert fault in caplog.text
    assert "\nignore" not in caplog.text


async def test_only_what_is_included_is_offered(bad):
    server, attempts = bad(), kit.Attempts()
    offered = await server.tools(attempts.ctx(), include=["echo", "die"], exclude=["die"])
    assert [tool.name for tool in offered] == ["echo"]
    assert await offered[0].handler(text="hi") == "hi "
    with pytest.raises(InvalidInputError, match="'ecco'.*it has: .*echo"):
        await server.tools(attempts.ctx(), include=["ecco"])
    with pytest.raises(InvalidInputError, match="its schema has"):
        await server.tools(attempts.ctx(), include=["huge"])


async def test_a_secret_is_in_no_error_and_a_marked_one_in_no_result(bad):
    with pytest.raises(McpToolError, match=r"no pears with \*\*\*") as told:
        await bad(env={"KEY": KEY}).call("fail", {"text": "pears"})
    assert KEY not in str(told.value)
    assert await bad(env={"KEY": KEY}).call("echo", {"text": "hi"}) == f"hi {KEY}"
    assert await bad(env={"KEY": SecretStr(KEY)}).call("echo", {"text": "hi"}) == "hi ***"


async def test_a_server_that_died_is_started_again_but_a_call_that_it_died_of_is_not_repeated(bad, notes):
    server = bad()
    assert await server.call("echo", {"text": "a"}) == "a "
    with pytest.raises(McpError, match="not known what was done"):
        await server.call("die")
    assert await server.call("echo", {"text": "b"}) == "b "
    assert lines(notes) == ["started", "echo", "die", "started", "echo"]


async def test_a_server_that_left_while_nobody_called_is_started_again(bad, notes):
    server = bad()
    assert await server.call("leave", {"text": "bye"}) == "bye "
    connection = server._connections._by_loop[asyncio.get_running_loop()]
    await until(lambda: not connection.usable)
    assert await server.call("echo", {"text": "a"}) == "a "
    assert lines(notes) == ["started", "leave", "started", "echo"]


async def test_a_call_without_an_answer_ends_in_time_and_the_connection_goes_on(bad, notes):
    server = bad(timeout=0.1)
    with pytest.raises(McpError, match=r"'hang': no answer within 0.1 s"):
        await server.call("hang")
    with pytest.raises(McpError, match=r"its tools: no answer within 0.1 s"):
        await bad("mute", timeout=0.1).tools(kit.Attempts().ctx())
    assert await server.call("echo", {"text": "a"}) == "a "
    assert lines(notes) == ["started", "hang", "started", "echo"]


async def test_a_connection_that_nobody_uses_is_closed(bad, notes):
    server = bad(idle=0.01)
    await server.call("echo", {"text": "a"})
    connection = server._connections._by_loop[asyncio.get_running_loop()]
    await until(connection.task.done)
    await server.call("echo", {"text": "a"})
    assert lines(notes).count("started") == 2


async def test_each_event_loop_has_a_connection_of_its_own(bad, notes):
    server = bad()
    await server.call("echo", {"text": "a"})

    async def elsewhere():
        try:
            return await server.call("echo", {"text": "b"})
        finally:
            await server.close()

    assert await asyncio.to_thread(asyncio.run, elsewhere()) == "b "
    assert await server.call("echo", {"text": "c"}) == "c "
    assert lines(notes) == ["started", "echo", "started", "echo", "echo"]


async def test_what_cannot_be_started_says_so_without_its_secrets(bad):
    with pytest.raises(McpError, match="MCP server none, its tools: cannot connect.*FileNotFoundError"):
        await McpServer("none", command=["/no/such/program"]).tools(kit.Attempts().ctx())
    with pytest.raises(McpError, match="MCP server bad.*cannot connect") as told:
        await bad("refuse", env={"KEY": KEY}).call("echo")
    assert KEY not in str(told.value)
    assert told.value.__cause__ is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either command"),
        ({"command": "uvx files"}, "found str"),
        ({"command": []}, "found list"),
        ({"url": "ftp://x"}, "http://"),
        ({"url": "http://x", "env": {"A": "b"}}, "headers= with url="),
        ({"command": ["x"], "headers": {"A": "b"}}, "env= goes with command="),
    ],
)
def test_a_server_that_is_described_wrongly_is_refused(options, said):
    with pytest.raises(InvalidInputError, match=said):
        McpServer("files", **options)
    with pytest.raises(InvalidInputError, match="short name"):
        McpServer("my files", url="http://x")
