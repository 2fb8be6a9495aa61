"""What `chat_api.http_protocol` uses of uvicorn's internals: the list, and whether it is still so.

A failure here says: read uvicorn's changes, compare them with `Protocol`, write the new digest.
"""

import ast
import asyncio
import hashlib
import inspect
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from chat_api import http_protocol

SOURCE = Path(http_protocol.__file__).read_text("utf-8")
# Methods that `Protocol` and `_Flow` override or call, and attributes that they read or set.
METHODS: dict[type, set[str]] = {
    HttpToolsProtocol: {
        *("connection_made", "connection_lost", "data_received", "on_message_begin"),
        *("on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
        *("_start_asgi_task", "_unset_keepalive_if_required"),
    },
    FlowControl: {"drain", "pause_reading", "resume_reading"},
}
ATTRIBUTES: dict[type, set[str]] = {
    HttpToolsProtocol: {
        *("app", "connections", "cycle", "expect_100_continue", "flow", "headers", "loop"),
        *("parser", "pipeline", "scope", "transport", "url"),
    },
    FlowControl: {"_is_writable_event", "write_paused"},
    RequestResponseCycle: {
        *("chunked_encoding", "disconnected", "expected_content_length", "keep_alive"),
        *("message_event", "response_complete", "response_started", "scope"),
    },
}
DIGESTS = {
    HttpToolsProtocol: "18fdf324b11bf160",
    RequestResponseCycle: "e67d470d435dcc1c",
    FlowControl: "126debcdaa894c83",
}


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_the_methods_are_there(kind: type) -> None:
    assert {name for name in METHODS[kind] if not inspect.isfunction(vars(kind).get(name))} == set()


@pytest.mark.parametrize("kind", ATTRIBUTES, ids=lambda kind: kind.__name__)
def test_the_attributes_are_set_there(kind: type) -> None:
    tree = ast.parse(inspect.getsource(kind))
    found = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    assert ATTRIBUTES[kind] - found == set()


def test_the_list_is_complete() -> None:
    """What `Protocol` takes from `self` is its own or in the list."""
    (protocol,) = (
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.ClassDef) and node.name == "Protocol"
    )
    own = {node.name for node in ast.walk(protocol) if isinstance(node, ast.FunctionDef)}
    used = {
        node.attr
        for node in ast.walk(protocol)
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id == "self")
            or (isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()")
        )
    }
    mine = set(vars(http_protocol.Protocol)) | {
        node.attr
        for node in ast.walk(protocol)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    listed = METHODS[HttpToolsProtocol] | ATTRIBUTES[HttpToolsProtocol]
    assert used - own - mine - listed - {"__init__"} == set()
    overridden = {name for name in own if hasattr(HttpToolsProtocol, name)} - {"__init__"}
    assert overridden <= METHODS[HttpToolsProtocol]


@pytest.mark.parametrize("kind", DIGESTS, ids=lambda kind: kind.__name__)
def test_the_classes_are_those_that_were_read(kind: type) -> None:
    digest = hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()[:16]
    assert digest == DIGESTS[kind], f"uvicorn {uvicorn.__version__} has changed {kind.__name__}"


async def test_an_event_wakes_all_that_wait() -> None:
    """Its waiters are a list in place of asyncio's deque."""
    event = http_protocol._Event()
    one, other, gone = (asyncio.create_task(event.wait()) for _ in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    assert not one.done()
    event.set()
    assert [await one, await other] == [True, True]
    assert event._waiters == []
    event.clear()
    assert not event.is_set()


def test_a_status_line_is_what_a_response_begins_with() -> None:
    assert STATUS_LINE[503] == b"HTTP/1.1 503 Service Unavailable\r\n"
