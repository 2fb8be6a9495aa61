"""Trace ids and log lines."""

import asyncio
import json
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

import pytest
import structlog

from chat_api.telemetry import (
    LineHandler,
    configure_logging,
    log,
    trace_id_of,
    trace_id_var,
    user_id_var,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("x_trace_id", "traceparent", "expected"),
    [
        ("abc", None, "abc"),
        ("abc", PARENT, "abc"),
        ("a" * 128, None, "a" * 128),
        ("A.b-c_9", None, "A.b-c_9"),
        (None, PARENT, TRACE),
        ("", PARENT, TRACE),
        ("not well formed", PARENT, TRACE),
        (None, f"01-{TRACE}-00f067aa0ba902b7-00", TRACE),
        (None, f"01-{TRACE}-00f067aa0ba902b7-00-more", TRACE),
        ("abc", "nonsense", "abc"),
    ],
)
def test_a_well_formed_trace_id_is_taken_over(
    x_trace_id: str | None, traceparent: str | None, expected: str
) -> None:
    assert trace_id_of(x_trace_id, traceparent) == expected


@pytest.mark.parametrize(
    ("x_trace_id", "traceparent"),
    [
        (None, None),
        ("", ""),
        ("a" * 129, None),
        (" abc", None),
        ("abc\n", None),
        ("abc def", None),
        ("-abc", None),
        (".abc", None),
        ("äbc", None),
        ('a"b', None),
        ("a{b", None),
        ("a/b", None),
        ("a\0b", None),
        (None, PARENT + "\n"),
        (None, PARENT.upper()),
        (None, PARENT.replace("00-4", "ff-4")),
        (None, f"00-{'0' * 32}-00f067aa0ba902b7-01"),
        (None, f"00-{TRACE}-{'0' * 16}-01"),
        (None, f"00-{TRACE[:-1]}-00f067aa0ba902b7-01"),
        (None, f"00-{TRACE}-00f067aa0ba902b7"),
        (None, f"00-{TRACE}-00f067aa0ba902b7-01-more"),
        (None, f"00-{TRACE[:-1]}g-00f067aa0ba902b7-01"),
        (None, f"01-{TRACE}-00f067aa0ba902b7-00more"),
        (None, TRACE),
    ],
)
def test_what_is_not_well_formed_gets_a_new_trace_id(
    x_trace_id: str | None, traceparent: str | None
) -> None:
    made = trace_id_of(x_trace_id, traceparent)
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert made != trace_id_of(x_trace_id, traceparent)


class Lines:
    """What has been logged since the last look."""

    def __init__(self, stdout: TextIO, capture: pytest.CaptureFixture[str]) -> None:
        self._stdout = stdout
        self._capture = capture

    def text(self) -> str:
        self._stdout.seek(0)
        return self._stdout.read()

    def __call__(self) -> list[dict[str, Any]]:
        assert self._capture.readouterr().err == "", "logging itself failed"
        written = self.text()
        self._stdout.seek(0)
        self._stdout.truncate()
        assert written == "" or written.endswith("\n")
        return [json.loads(line) for line in written.split("\n")[:-1]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Logging as the service has it, onto a stdout that the test reads."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stdout:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            configure_logging("INFO")
        try:
            yield Lines(stdout, capsys)
        finally:
            root.handlers = handlers
            root.setLevel(level)
            structlog.reset_defaults()


def test_a_line_is_one_json_object(lines: Lines) -> None:
    log.info("request", route="/x\n{id}", text="ä\u2028\n", number=7, nothing=None)
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "chat_api",
        "route": "/x\n{id}",
        "text": "ä\u2028\n",
        "number": 7,
        "nothing": None,
    }


def test_a_line_is_ascii_whatever_is_in_it(lines: Lines) -> None:
    user = user_id_var.set("J\u00fcrgen \U0001f600")
    try:
        log.info("request", route="/\u4f60")
    finally:
        user_id_var.reset(user)
    assert lines.text().isascii()
    (line,) = lines()
    assert (line["user_id"], line["route"]) == ("J\u00fcrgen \U0001f600", "/\u4f60")


def test_a_line_names_its_request(lines: Lines) -> None:
    trace, user = trace_id_var.set("trace-1"), user_id_var.set("user-1")
    try:
        log.info("request")
        log.info("generation_ended", trace_id="of the answer")
    finally:
        trace_id_var.reset(trace)
        user_id_var.reset(user)
    log.info("sweep")
    first, second, third = lines()
    assert (first["trace_id"], first["user_id"]) == ("trace-1", "user-1")
    assert second["trace_id"] == "of the answer"
    assert not {"trace_id", "user_id"} & set(third)


def test_libraries_lines_look_like_ours(lines: Lines) -> None:
    logging.getLogger("uvicorn.error").warning("Started %s\n%d", "it", 7)
    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == (
        "Started it\n7",
        "warning",
        "uvicorn.error",
    )


def test_chatter_is_left_out(lines: Lines) -> None:
    log.debug("detail")
    logging.getLogger("uvicorn.access").error("GET /secret")
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("alembic.runtime").info("chatter")
    assert lines() == []


def test_a_start_that_failed_is_named_and_its_traceback_is_not_logged(lines: Lines) -> None:
    try:
        fail()
    except ValueError:
        text = traceback.format_exc()
    logging.getLogger("uvicorn.error").error(text)
    (line,) = lines()
    assert (line["event"], line["exception"]) == ("application_failed", "ValueError")
    assert "sentinel" not in json.dumps(line)


def fail() -> None:
    secret = "sentinel"
    raise ValueError(f"{secret} is not valid")


@pytest.mark.case(35)
@pytest.mark.parametrize("of", ["ours", "a library"])
@pytest.mark.parametrize("given", ["True", "the exception", "a tuple"])
def test_an_exception_is_named_and_its_message_is_not_logged(
    of: str, given: str, lines: Lines
) -> None:
    logger: Any = log if of == "ours" else logging.getLogger("library")
    try:
        fail()
    except ValueError as error:
        info = {"True": True, "the exception": error, "a tuple": sys.exc_info()}[given]
        logger.log(logging.ERROR, "failed", exc_info=info)
    (line,) = lines()
    assert line["exception"] == "ValueError"
    assert line["stack"][-1].endswith(" fail")
    assert "sentinel" not in json.dumps(line)
    assert "exc_info" not in line


def test_a_cause_s_message_is_not_logged_either(lines: Lines) -> None:
    try:
        try:
            fail()
        except ValueError as error:
            raise KeyError("outer-sentinel") from error
    except KeyError:
        logging.getLogger("library").exception("failed")
    (line,) = lines()
    assert line["exception"] == "KeyError"
    assert "sentinel" not in json.dumps(line)


def test_exc_info_without_an_exception_is_nothing(lines: Lines) -> None:
    log.info("fine", exc_info=True)
    (line,) = lines()
    assert "exception" not in line


@pytest.mark.case(35)
async def test_a_lost_task_s_exception_is_not_quoted(lines: Lines) -> None:
    async def lost() -> None:
        fail()

    task = asyncio.create_task(lost())
    await asyncio.wait({task})
    asyncio.get_running_loop().call_exception_handler(
        {
            "message": "Task exception was never retrieved",
            "exception": task.exception(),
            "future": task,
        }
    )
    (line,) = lines()
    assert "sentinel" not in json.dumps(line)


def test_odd_values_do_not_break_a_line(lines: Lines) -> None:
    log.info("odd", kind=ValueError, items={1, 2}, path=object())
    (line,) = lines()
    assert line["event"] == "odd"


@pytest.mark.parametrize("value", ["\ud800", 2**70, {1: "x"}])
def test_values_that_json_cannot_hold_do_not_lose_the_line(value: object, lines: Lines) -> None:
    log.info("odd", value=value)
    (line,) = lines()
    assert line["event"] == "odd"


@pytest.mark.case(68)
def test_a_pipe_without_a_reader_loses_lines_and_holds_up_nothing() -> None:
    reader, writer = os.pipe()
    handler = LineHandler(writer)
    line = logging.makeLogRecord({"msg": "x" * 10_000})
    for _ in range(100):
        handler.emit(line)
    *whole, torn = os.read(reader, 1 << 20).split(b"\n")
    assert set(map(len, whole)) == {10_000}
    assert len(torn) < 10_000
    handler.emit(logging.makeLogRecord({"msg": "again"}))
    *_, lost, again = os.read(reader, 1 << 20).splitlines()
    assert json.loads(lost)["lines"] == 100 - len(whole)
    assert again == b"again"
    os.close(reader)
    handler.emit(line)  # it has no reader any more
    os.close(writer)
