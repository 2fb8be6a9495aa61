"""Two replicas of the service: a pair shared by gentle tests, and pairs of a test's own to kill."""

import gc
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import Database, Databases
from tests.support.inference import Inference
from tests.support.service import Service, ServiceWith

ROOT = Path(__file__).parent.parent.parent


HERE = Path(__file__).parent
# One user makes all the load of a test.
MANY_MESSAGES = {"MESSAGES_PER_MINUTE": "0"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow for sockets that the test's own HTTP client leaves to the garbage collector.

    A request that is cancelled while it connects, or whose server is killed, does that.
    """
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collects what a test has left before the next one, whose fault it is not, begins."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@dataclass
class Pair:
    """Two replicas on one database, and the same user at each of them."""

    services: tuple[Service, Service]
    here: Client
    there: Client
    db: Database

    @property
    def clients(self) -> tuple[Client, Client]:
        """The user at either replica."""
        return self.here, self.there


class StartPair(Protocol):
    """Starts two replicas on a database of their own, with these settings on top.

    With `crash_at`, the first of them kills itself at that point (tests.support.crashing).
    """

    async def __call__(
        self, *, database_url: str | None = None, crash_at: str | None = None, **env: str
    ) -> Pair: ...


@pytest.fixture(scope="session")
def replicas(service_with: ServiceWith, databases: Databases) -> tuple[str, Service, Service]:
    """The database and the two services of `pair`."""
    url = databases.migrated()
    return (
        url,
        service_with(DATABASE_URL=url, LOG_LEVEL="INFO", **MANY_MESSAGES),
        service_with(DATABASE_URL=url, LOG_LEVEL="DEBUG", **MANY_MESSAGES),
    )


@pytest.fixture
def pair(
    replicas: tuple[str, Service, Service],
    auth: AuthServer,
    inference: Inference,
    clients: MakeClient,
) -> Pair:
    """Two replicas that outlive the test, and a new user."""
    url, one, two = replicas
    account = auth.user("alice")
    return Pair((one, two), clients(one, account), clients(two, account), Database(url))


@pytest.fixture
async def start_pair(
    usual_env: dict[str, str],
    databases: Databases,
    auth: AuthServer,
    inference: Inference,
    clients: MakeClient,
    tmp_path: Path,
) -> AsyncIterator[StartPair]:
    """Starts two replicas that the test may do anything to. Their leases are 2 s long."""
    started: list[Service] = []

    async def start(
        *, database_url: str | None = None, crash_at: str | None = None, **env: str
    ) -> Pair:
        url = database_url or databases.migrated()
        ours = {"DATABASE_URL": url, "LEASE_SECONDS": "2", **MANY_MESSAGES}
        merged = {**usual_env, **ours, **env}
        if crash_at is None:
            one = Service(merged, folder=tmp_path)
        else:
            one = Service(
                {**merged, "CRASH_AT": crash_at, "PYTHONPATH": str(ROOT)},
                folder=tmp_path,
                command=(sys.executable, "-m", "tests.support.crashing"),
            )
        two = Service(merged, folder=tmp_path)
        started.extend((one, two))
        for service in (one, two):
            service.start(wait=False)
        for service in (one, two):
            service.wait_ready()
        account = auth.user("alice")
        return Pair((one, two), clients(one, account), clients(two, account), Database(url))

    yield start
    for service in started:
        service.close()
    for service in started:
        # A task that died, or anything else that is a defect and not an outage.
        assert [line for line in service.logs() if line.get("level") == "critical"] == []
        assert "Traceback" not in service.text()
