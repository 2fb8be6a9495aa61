"""Which encoding a browser is sent (RFC 9110, section 12.5.3)."""

import pytest

from chat_api.frontend import _takes_gzip


@pytest.mark.parametrize(
    ("accepted", "gzip"),
    [
        ("gzip", True),
        ("GZip , br", True),
        ("x-gzip", True),
        ("*", True),
        ("br, *;q=0.1", True),
        ("gzip;q=0.001", True),
        ("gzip;Q=1.000", True),
        ("identity;q=0.5, gzip;q=1.0", True),
        ("identity;q=0, gzip", True),
        ("*;q=0, gzip", True),
        ("", False),
        (",,", False),
        ("br, deflate", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip ; q = 0", False),
        ("*, gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("gzip;q=2", False),
        ("gzip;q=yes", False),
        ("gzip;q=", False),
        ("notgzip", False),
    ],
)
def test_gzip_is_sent_where_it_is_preferred(accepted: str, gzip: bool) -> None:
    assert _takes_gzip(accepted) is gzip
