"""The code of docs/logging.md is right, and what it says of names and settings is so."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import structlog

from agnt5.client import Run
from agnt5.client.logs import LogLine
from agnt5.contracts.settings import Settings
from agnt5.registry import isolated
from agnt5.telemetry import logs_kept
from agnt5.telemetry.current import FIELDS
from agnt5.telemetry.logs import OF_A_RUN, AllFields
from agnt5.telemetry.logs_format import JsonLines

TEXT = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
BLOCKS = re.findall(r"(<!-- needs a server -->\n)?```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_handler_and_the_set_up_of_structlog_are_right():
    with isolated() as registry:
        space: dict[str, Any] = {"__name__": "payments"}
        exec(compile(BLOCKS[0][1], "docs/logging.md", "exec"), space)
        assert [handler.address for handler in registry] == ["payments.pay"]
    try:
        exec(compile(BLOCKS[1][1], "docs/logging.md", "exec"), {})
        out = io.StringIO()
        token = FIELDS.set({"run_id": "order-17"})
        structlog.wrap_logger(structlog.PrintLogger(out)).info("said", size=3)
        FIELDS.reset(token)
        assert json.loads(out.getvalue()) == {"event": "said", "level": "info", "run_id": "order-17", "size": 3}
    finally:
        structlog.reset_defaults()


def test_the_client_s_code_fits_its_methods(capsys):
    (code,) = (code for elsewhere, code in BLOCKS if elsewhere)
    line = LogLine(at=None, level="WARNING", logger="l", message="said")  # type: ignore[arg-type]

    class Client:
        def get(self, run_id: str) -> Any:
            assert hasattr(Run, "logs")
            return type("Run", (), {"logs": lambda self, *, level: [line]})()

    exec(compile(code, "docs/logging.md", "exec"), {"client": Client()})
    assert capsys.readouterr().out == "None WARNING said {} \n"


def test_fields_settings_and_limits_are_told_as_they_are():
    assert all(f"`{name}`" in TEXT for name in OF_A_RUN)
    assert (Settings().log_format, Settings().log_keep) == ("console", 200)
    assert (logs_kept.FLUSH_S, logs_kept.MOST_LINES, logs_kept.LINE_BYTES) == (0.2, 10_000, 4096)
    (shown,) = re.findall(r"```json\n(.*?)\n```", TEXT, re.DOTALL)
    told = json.loads(shown)
    record = logging.makeLogRecord({"name": told["logger"], "levelname": "INFO", "msg": "paying"})
    own = ("timestamp", "level", "logger", "message")
    record.fields = AllFields({name: value for name, value in told.items() if name not in own})  # type: ignore[attr-defined]
    record.__dict__.update({name: value for name, value in record.fields.items() if name != "name"})
    record.created = 1796053871.363
    assert JsonLines().format(record) == shown
