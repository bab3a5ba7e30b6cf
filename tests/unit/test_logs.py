"""Log records know their run; whatever is logged, and however, no handler breaks for it."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from support.secret_values import made

from agnt5.contracts.masking import MASKER
from agnt5.sdk.observability import RunLog
from agnt5.telemetry import logs_format
from agnt5.telemetry.current import FIELDS, SILENT, STEP
from agnt5.telemetry.logs import RunFields, add_run_fields, fields_of, mark_records, text_of
from agnt5.telemetry.logs_format import ConsoleLines, JsonLines, formatter_of, to_json
from agnt5.telemetry.logs_kept import line_of as kept_line

RUN = {
    "run_id": "order-17~2", "step_id": "2", "attempt": 1, "service": "orders", "handler": "fulfil",
    "trace_id": "a" * 32, "span_id": "b" * 16, "correlation_id": "c-1",
}  # fmt: skip


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def handleError(self, record: logging.LogRecord) -> None:
        raise AssertionError("a record broke its handler")

    @property
    def last(self) -> logging.LogRecord:
        return self.records[-1]


@pytest.fixture(autouse=True)
def marked() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    mark_records()
    yield
    logging.setLogRecordFactory(before)


@pytest.fixture
def heard() -> Iterator[Heard]:
    """All that any logger writes."""
    handler, root = Heard(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def in_run(code: Any, fields: dict[str, Any] | None = None) -> Any:
    """Call as a run's code."""

    def call() -> Any:
        FIELDS.set(fields or RUN)
        return code()

    return contextvars.copy_context().run(call)


def run_log(silent: bool = False) -> RunLog:
    return RunLog("orders.fulfil", lambda: RUN, lambda: silent)


def line_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.format(record)


def json_of(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonLines().format(record)
    assert len(text.splitlines()) == 1
    assert text.isascii()
    return json.loads(text)


# ---- records


def test_each_logger_of_a_run_s_code_writes_records_that_know_the_run(heard):
    in_run(lambda: logging.getLogger("some.library").info("said"))
    assert heard.last.agnt5 == RUN
    assert fields_of(heard.last) == RUN


def test_a_record_outside_of_runs_has_no_field(heard):
    logging.getLogger("some.library").info("said", extra={"size": 3})
    assert not hasattr(heard.last, "agnt5")
    assert fields_of(heard.last) == {"size": 3}


@pytest.mark.parametrize("name", RUN)
def test_a_library_s_extra_may_be_called_as_a_field_of_the_run(heard, name):
    in_run(lambda: logging.getLogger("some.library").info("said", extra={name: "its own"}))
    assert getattr(heard.last, name) == "its own"
    assert fields_of(heard.last) == {**RUN, name: "its own"}


def test_the_step_that_runs_is_told_also_in_threads_that_inherit_it(heard):
    def step() -> None:
        STEP.set("charge")
        thread = threading.Thread(target=contextvars.copy_context().run, args=[logging.getLogger("lib").info, "said"])
        thread.start()
        thread.join()

    in_run(step)
    assert fields_of(heard.last)["step_id"] == "charge"


def test_the_span_that_opentelemetry_records_is_told(heard):
    def traced() -> tuple[str, str]:
        with TracerProvider().get_tracer("t").start_as_current_span("work") as span:
            logging.getLogger("lib").info("said")
            place = span.get_span_context()
            return f"{place.trace_id:032x}", f"{place.span_id:016x}"

    trace_id, span_id = in_run(traced)
    assert (fields_of(heard.last)["trace_id"], fields_of(heard.last)["span_id"]) == (trace_id, span_id)


def test_marking_twice_wraps_once_and_keeps_the_factory_that_was_there(heard):
    made: list[str] = []

    class Own(logging.LogRecord):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self.name)

    logging.setLogRecordFactory(Own)
    mark_records()
    factory = logging.getLogRecordFactory()
    mark_records()
    assert logging.getLogRecordFactory() is factory
    in_run(lambda: logging.getLogger("lib").info("said"))
    assert isinstance(heard.last, Own)
    assert made == ["lib"]
    assert heard.last.agnt5 == RUN


# ---- ctx.log()

COLLIDING = ["name", "message", "args", "asctime", "msg", "levelname", "exc_info", "taskName", "fields", "agnt5"]


@pytest.mark.parametrize("name", COLLIDING)
def test_extra_may_be_called_as_what_a_record_has_itself(heard, name):
    in_run(lambda: run_log().info("said %d", 1, extra={name: "mine", "size": 3}))
    record = heard.last
    assert record.getMessage() == "said 1"
    assert (record.name, record.size) == ("agnt5.run.orders.fulfil", 3)
    assert record.fields == {**RUN, name: "mine", "size": 3}
    line = json_of(record)
    assert line[f"{name}_" if name == "message" else name] == "mine"
    assert line["size"] == 3
    assert f"{name}=mine" in ConsoleLines().format(record)


def test_a_run_s_logger_is_a_standard_one(heard):
    log = run_log()
    try:
        raise KeyError("lost")
    except KeyError:
        log.exception("failed")
    assert heard.last.exc_info[0] is KeyError
    assert heard.last.run_id == "order-17~2"
    assert heard.last.filename == "test_logs.py"
    log.info("said", extra={"attempt": "mine"})
    assert heard.last.attempt == "mine"
    log.info("said", extra=None)
    log.info("said", extra=["no", "mapping"])
    assert heard.last.fields["extra"] == ["no", "mapping"]
    run_log(silent=True).critical("never said")
    assert heard.last.getMessage() == "said"


def test_what_a_filter_changes_or_takes_away_is_so(heard):
    def redact(record: logging.LogRecord) -> bool:
        record.password = "***"
        del record.card
        return True

    log = run_log()
    log.logger.addFilter(redact)
    try:
        log.info("said", extra={"first": 1, "password": "hunter22", "card": 4111, "name": "Ann"})  # noqa: G101
    finally:
        log.logger.removeFilter(redact)
    assert list(fields_of(heard.last).items())[-3:] == [("first", 1), ("password", "***"), ("name", "Ann")]
    assert "hunter22" not in JsonLines().format(heard.last) + ConsoleLines().format(heard.last)
    assert "card" not in json_of(heard.last)


# ---- structlog


def test_structlog_s_events_carry_the_run():
    told: list[dict[str, Any]] = []

    def keep(_logger: Any, _name: str, event: dict[str, Any]) -> str:
        told.append(event)
        return ""

    log = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[add_run_fields, keep])
    in_run(lambda: log.info("said", size=3, attempt="mine"))
    log.info("outside")
    assert told == [{**RUN, "event": "said", "size": 3, "attempt": "mine"}, {"event": "outside"}]


def test_structlog_wraps_a_run_s_logger(heard):
    processors = [structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs]
    wrap = structlog.stdlib.BoundLogger
    log = structlog.wrap_logger(run_log(), processors=processors, wrapper_class=wrap).bind(name="ann")
    log.warning("said", size=3)
    assert heard.last.getMessage() == "said"
    assert heard.last.fields == {**RUN, "name": "ann", "size": 3}
    silent = structlog.wrap_logger(run_log(silent=True), processors=processors, wrapper_class=wrap)
    silent.warning("never said")
    assert heard.last.getMessage() == "said"


def test_structlog_renders_what_standard_loggers_write(heard):
    in_run(lambda: logging.getLogger("lib").info("said", extra={"size": 3}))
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    RunFields().filter(heard.last)
    line = json.loads(formatter.format(heard.last))
    assert {**RUN, "size": 3, "event": "said"}.items() <= line.items()


# ---- JSON


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class HostileKey(Hostile):
    __str__ = Hostile.__repr__


def test_a_json_line_has_time_level_logger_message_fields_and_exception(heard):
    def fail() -> None:
        try:
            raise ValueError("no\ngood")
        except ValueError:
            logging.getLogger("lib").exception("failed\nin two lines", extra={"size": 3})

    in_run(fail)
    heard.last.created, heard.last.msecs = 1796053871.358916, 358.0
    line = json_of(heard.last)
    assert line.pop("exception").startswith("Traceback (most recent call last):\n")
    assert line == {
        "timestamp": "2026-11-30T15:51:11.358Z", "level": "ERROR", "logger": "lib", "message": "failed\nin two lines",
        **RUN, "size": 3,
    }  # fmt: skip


LOOP: dict[str, Any] = {}
LOOP["self"] = LOOP

VALUES = {
    "object": object(), "set": {1}, "nan": float("nan"), "loop": LOOP, "hostile": Hostile(), "bytes": b"x",
    "keys": {(1, 2): 3}, "surrogate": "\ud800", "lines": "a\u2028b\x85c\x0bd\x1ce\r\n", "deep": [[[{"a": {1}}]]],
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_any_value_makes_one_line(heard, name, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [heard])  # pytest cannot send a lone surrogate in its reports
    run_log().info("said %s", "a\u2028b\nc\udc80", extra={"value": VALUES[name], "more": 3, "\udc80": 1})
    line = json_of(heard.last)
    assert "value" in line
    assert line["more"] == 3
    assert ConsoleLines().format(heard.last).encode()


def test_a_message_that_does_not_fit_its_arguments_is_told_all_the_same():
    for args in ((1, 2), ({"a": 1},), (Hostile(),)):
        record = logging.makeLogRecord({"msg": "said %d", "args": args})
        assert "said %d" in text_of(record)
        assert "said %d" in json_of(record)["message"]


@pytest.mark.parametrize("known", [False, True])
def test_no_line_can_break_the_code_that_writes_it(known):
    told, failed, heard = io.StringIO(), [], Heard()
    log = logging.Logger("apart")  # noqa: LOG001 - pytest has a handler on all others, which raises
    log.addHandler(heard)
    for formatter in (JsonLines(), ConsoleLines()):
        handler = logging.StreamHandler(told)
        handler.setFormatter(formatter)
        handler.addFilter(RunFields())
        handler.handleError = failed.append
        log.addHandler(handler)
    try:
        if known:
            MASKER.learn("stripe", made("stripe"))
        log.info(Hostile())
        log.info("said %s", Hostile(), extra={"value": {HostileKey(): {HostileKey(): Hostile()}}})
        log.info("said", exc_info=("no", "exception", "at all"))
        log.info("said", extra={"agnt5": "somebody's own"})
        assert all(map(kept_line, heard.records))
    finally:
        MASKER.forget()
    assert not failed
    assert len(told.getvalue().splitlines()) == 8 + 1  # an exception is a line of its own for people
    assert "somebody's own" in told.getvalue()


@pytest.mark.parametrize("given", [{"size": 3}, "some text", 7])
def test_another_logger_s_extra_may_be_called_fields(heard, given):
    in_run(lambda: logging.getLogger("lib").info("said", extra={"fields": given}))
    assert json_of(heard.last)["fields"] == given
    assert json.loads(kept_line(heard.last))["fields"] == {"fields": given}


def test_json_never_raises():
    assert json.loads(to_json(LOOP)) == {"self": repr(LOOP)}
    assert json.loads(to_json(Hostile())) == "<Hostile>"
    assert json.loads(to_json(float("inf"))) == "inf"


# ---- console


def test_a_console_line_has_the_run_in_short_and_extras_by_name(heard):
    in_run(lambda: logging.getLogger("lib").info("said", extra={"size": 3, "who": "Ann B", "empty": ""}))
    text = ConsoleLines().format(heard.last)
    end = ' INFO lib: said  run=order-17~2 handler=orders.fulfil attempt=1 size=3 who="Ann B" empty=""'
    assert text[23:] == end
    run_log().info("said", extra={"long": "x" * 900})
    text = ConsoleLines().format(heard.last)
    assert " INFO agnt5.run.orders.fulfil: said  run=order-17~2 attempt=1 long=xxx" in text
    assert text.endswith("x...")
    assert len(text) < 400


def test_a_console_line_shows_control_characters_and_lets_nobody_write_to_the_terminal(heard):
    run_log().info("a\x1b[31mred\x9b\rback", extra={"name": "\x1b]0;title\x07", "lines": "a\nb"})
    text = ConsoleLines().format(heard.last)
    assert text.isprintable()
    assert r"a\x1b[31mred\x9b\rback" in text


def test_colours_are_for_terminals_of_those_who_want_them(heard, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    run_log().error("said")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mERROR\x1b[0m" in formatter_of("console", Terminal()).format(heard.last)
    assert "\x1b" not in formatter_of("console", io.StringIO()).format(heard.last)
    assert "\x1b" not in formatter_of("json", Terminal()).format(heard.last)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in formatter_of("console", Terminal()).format(heard.last)


# ---- masks, filters


@pytest.fixture
def secret() -> Iterator[str]:
    value = 'very "hidden"\nkey'
    MASKER.learn("stripe", value)
    yield value
    MASKER.forget()


def test_secrets_are_masked_in_message_fields_and_exception(heard, secret):
    try:
        raise ValueError(secret)
    except ValueError:
        run_log().exception("key %s", secret, extra={"key": secret, "deep": [{"a": secret}]})
    for formatter in (JsonLines(), ConsoleLines()):
        text = formatter.format(heard.last)
        assert "hidden" not in text
        assert text.count("[secret:stripe]") >= 4


def test_the_filter_masks_for_handlers_of_others(heard, secret):
    try:
        raise ValueError(secret)
    except ValueError:
        run_log().exception("key %s", secret)
    assert RunFields().filter(heard.last)
    text = logging.Formatter("%(run_id)s %(message)s").format(heard.last)
    assert text.startswith("order-17~2 key [secret:stripe]")
    assert "hidden" not in text


def test_the_filter_leaves_out_what_a_replay_says_again(heard):
    def replayed(silent: bool) -> list[bool]:
        SILENT.set(lambda: silent)
        logging.getLogger("shop").info("said")
        logging.getLogger("agnt5.runtime").info("said")
        return [RunFields().filter(record) for record in heard.records[-2:]]

    assert in_run(lambda: replayed(True)) == [False, True]
    assert in_run(lambda: replayed(False)) == [True, True]


def test_the_level_of_a_web_server_has_to_be_one():
    with pytest.raises(Exception, match="log level 'loud'"):
        logs_format.set_up("json", "loud")
