"""What a response writes in one turn of the loop leaves together, in its order."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from chat_api.http_protocol import _MOST_HELD_BYTES, _Outlet


class Transport:
    """Notes what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


def head_and(*rest: Callable[[_Outlet], None]) -> Callable[[_Outlet], None]:
    def do(outlet: _Outlet) -> None:
        outlet.write(b"head")
        for one in rest:
            one(outlet)

    return do


LARGE = b"x" * _MOST_HELD_BYTES


@pytest.mark.parametrize(
    ("do", "at_once", "at_last"),
    [
        (head_and(), [], [b"head"]),
        (head_and(lambda outlet: outlet.write(b"body")), [], [b"headbody"]),
        (head_and(lambda outlet: outlet.write_now(b"body")), [b"head", b"body"], []),
        (head_and(lambda outlet: outlet.write(LARGE)), [b"head" + LARGE], []),
        (head_and(_Outlet.flush, lambda outlet: outlet.write(b"more")), [b"head"], [b"more"]),
        (head_and(_Outlet.close), [b"head"], []),
        (head_and(lambda outlet: outlet._transport.close()), [], []),
    ],
)
async def test_pieces_of_one_turn_leave_together(
    do: Callable[[_Outlet], None], at_once: list[bytes], at_last: list[bytes]
) -> None:
    transport = Transport()
    do(_Outlet(cast("asyncio.Transport", transport), asyncio.get_running_loop()))
    assert transport.written == at_once
    await asyncio.sleep(0)
    assert transport.written == at_once + at_last
