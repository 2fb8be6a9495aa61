"""The service whose kernel gives vanished clients up after a second, not 45, for tests in a hurry:
`python -m tests.support.impatient serve …`.
"""

from chat_api import http_protocol
from chat_api.cli import main

if __name__ == "__main__":
    assert 5_000 < http_protocol._USER_TIMEOUT_MS < 60_000, (
        "a vanished client is gone within a minute"
    )
    http_protocol._USER_TIMEOUT_MS = 1_000
    main()
