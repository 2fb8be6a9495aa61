"""What every test can ask for: a real PostgreSQL, scripted neighbours, the service, clients.

One PostgreSQL, one auth and one inference service, and one service under test live as long as the
run (of one xdist worker); tests keep out of each other's way by using users of their own. A test
that needs settings of its own asks for `start_service` (a process of its own) or `service_with`
(a process shared by all tests that want the same settings).
"""

import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

# Found as `tests.support` however pytest was started.
sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.auth import Account, AuthServer
from tests.support.client import Client, MakeClient
from tests.support.database import FAST, Database, Databases
from tests.support.inference import Inference
from tests.support.service import Service, ServiceWith, StartService

from chat_api.local.postgres import EmbeddedPostgres

INTERNAL_API_KEY = "key-that-only-the-services-know-7f3a"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of randomised tests here, so that it is known (and xdist's workers share it).

    `--hypothesis-seed=N` repeats a run. Services do not inherit that SIGHUP is ignored (nohup).
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))
    settings.register_profile("samosachaat", print_blob=True, deadline=None)
    settings.load_profile("samosachaat")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, which start its services once; begin with slow ones.

    Tests marked `slow`, and those that start services of their own, are handed out one by one. The
    order is that of `--no-loadscope-reorder`.
    """
    for item in items:
        names = getattr(item, "fixturenames", ())
        own = {"start_pair", "start_service"}.intersection(names) or item.get_closest_marker("slow")
        if not own:
            item.add_marker(pytest.mark.xdist_group(item.location[0]))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_report_header(config: pytest.Config) -> str:
    """Say how to repeat this run."""
    return f"randomised tests: --hypothesis-seed={config.option.hypothesis_seed}"


@pytest.fixture(scope="session")
def internal_api_key() -> str:
    """The key that the services share."""
    return INTERNAL_API_KEY


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The database server of the run."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), options=FAST) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Databases:
    """Makes databases: `.migrated()`, `.empty()`."""
    return Databases(postgres, INTERNAL_API_KEY)


@pytest.fixture(scope="session")
def database_url(databases: Databases) -> str:
    """The database of the shared services."""
    return databases.migrated()


@pytest.fixture
def fresh_database_url(databases: Databases) -> str:
    """A migrated database of the test's own."""
    return databases.migrated()


@pytest.fixture
def db(database_url: str) -> Database:
    """Direct access to the database of the shared services."""
    return Database(database_url)


@pytest.fixture(scope="session")
def auth_server() -> Iterator[AuthServer]:
    with AuthServer(INTERNAL_API_KEY) as server:
        yield server


@pytest.fixture(scope="session")
def inference_server() -> Iterator[Inference]:
    with Inference(INTERNAL_API_KEY) as server:
        yield server


@pytest.fixture
def auth(auth_server: AuthServer) -> Iterator[AuthServer]:
    """The scripted auth service, as if just started (users of earlier tests stay)."""
    auth_server.reset()
    yield auth_server
    auth_server.reset()


@pytest.fixture
def inference(inference_server: Inference) -> Iterator[Inference]:
    """The scripted inference service, as if just started."""
    inference_server.reset()
    yield inference_server
    # What still runs of this test would be written into the next one's record.
    inference_server.drop_unfinished()
    inference_server.reset()


@pytest.fixture(scope="session")
def usual_env(
    database_url: str, auth_server: AuthServer, inference_server: Inference
) -> dict[str, str]:
    """The environment of a service under test; what is not in it has its default."""
    return {
        "DATABASE_URL": database_url,
        "AUTH_SERVICE_URL": auth_server.url,
        "INFERENCE_SERVICE_URL": inference_server.url,
        "INTERNAL_API_KEY": INTERNAL_API_KEY,
        "DATABASE_POOL_SIZE": "5",
        "DRAIN_SECONDS": "1",
        # All tests share one address, and many of them send no token or a wrong one.
        "UNAUTHENTICATED_PER_MINUTE": "0",
    }


@pytest.fixture(scope="session")
def service_with(
    usual_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceWith]:
    """Services shared by all tests that want the same settings."""
    folder = tmp_path_factory.mktemp("services")
    started: dict[tuple[tuple[str, str], ...], Service] = {}

    def give(**env: str) -> Service:
        name = tuple(sorted(env.items()))
        service = started.get(name)
        if service is None:
            service = started[name] = Service({**usual_env, **env}, folder=folder).start()
        assert service.running, f"the shared service has ended; its log:\n{service.text()}"
        return service

    yield give
    for service in started.values():
        service.close()


@pytest.fixture
def service(service_with: ServiceWith, auth: AuthServer, inference: Inference) -> Service:
    """The service, with the usual settings, on the shared database."""
    return service_with()


@pytest.fixture
def start_service(
    usual_env: dict[str, str], auth: AuthServer, inference: Inference, tmp_path: Path
) -> Iterator[StartService]:
    """Starts services of the test's own (on the shared database unless DATABASE_URL is given)."""
    started: list[Service] = []

    def start(
        variables: Mapping[str, str | None] | None = None,
        /,
        *,
        workers: int | None = None,
        wait: bool = True,
        **env: str | None,
    ) -> Service:
        merged = {**usual_env, **(variables or {}), **env}
        service = Service(merged, folder=tmp_path, workers=workers)
        started.append(service)
        return service.start(wait=wait)

    yield start
    for service in started:
        service.close()


@pytest.fixture
async def clients() -> AsyncIterator[MakeClient]:
    """Makes clients: `clients(service, account)`; with None, without credentials."""
    made: list[Client] = []

    def make(service: Service, account: Account | None = None) -> Client:
        client = Client(service.url, account)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.http.aclose()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[Client]:
    """A client without credentials."""
    async with Client(service.url) as client:
        yield client


@pytest.fixture
async def alice(service: Service, auth: AuthServer) -> AsyncIterator[Client]:
    """A new user."""
    async with Client(service.url, auth.user("alice")) as client:
        yield client


@pytest.fixture
async def bob(service: Service, auth: AuthServer) -> AsyncIterator[Client]:
    """Another new user."""
    async with Client(service.url, auth.user("bob")) as client:
        yield client


@pytest.fixture
async def admin(service: Service, auth: AuthServer) -> AsyncIterator[Client]:
    """A new user who is an admin."""
    async with Client(service.url, auth.user("admin", is_admin=True)) as client:
        yield client
