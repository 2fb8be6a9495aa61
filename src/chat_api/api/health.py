"""Liveness, readiness and metrics."""

import asyncio
import os
from pathlib import Path

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.responses import Response

from chat_api.api.responses import problems, written_json
from chat_api.api.schemas.responses import Health, Ready
from chat_api.api.services import Services, services_of
from chat_api.db import housekeeping
from chat_api.db.database import Database, reason_of
from chat_api.db.schema import Found, inspect
from chat_api.errors import DatabaseUnavailable, NotReady

router = APIRouter(tags=["operations"])
_CHECK_SECONDS = 2.0


@router.get("/api/health", response_model=Health)
async def health() -> Response:
    """Liveness: the process answers. No authentication, no I/O."""
    return alive()


def alive() -> Response:
    """Return the response of a live process."""
    return written_json(b'{"status":"ok","ready":true,"service":"chat-api"}')


@router.get("/api/ready", response_model=Ready, responses=problems())
async def ready(request: Request) -> dict[str, object]:
    """Readiness: the database answers, its schema is not behind, this replica is not leaving."""
    checks = await _checks(services_of(request))
    failed = [name for name, state in checks.items() if state != "ok"]
    if failed:
        raise NotReady(f"Not ready: {', '.join(failed)}.", fields={"checks": checks})
    return {"status": "ok", "checks": checks}


async def _checks(services: Services) -> dict[str, str]:
    checks = {"draining": "draining" if services.registry.is_draining else "ok"}
    try:
        async with asyncio.timeout(_CHECK_SECONDS), services.db.connection() as connection:
            found = await inspect(connection)
        checks["database"] = _database_check(found)
        checks["migrations"] = _schema_check(found, services.db)
        if checks["database"] == "ok" and not await accepts_writes(services.db):
            checks["database"] = "refuses writes"
    except (DatabaseUnavailable, TimeoutError) as error:
        checks["database"] = reason_of(error)
        checks["migrations"] = "unknown"
    return checks


def _database_check(found: Found) -> str:
    if found.refusal is not None:
        return found.refusal
    if found.read_only:
        return "read-only"
    return found.session or "ok"


def _schema_check(found: Found, db: Database) -> str:
    if found.fault is None:
        return "ok" if db.schema_is_complete else "not yet checked"
    return found.schema.value + ": " + (db.schema_fault or found.fault)


async def accepts_writes(db: Database) -> bool:
    """Return False for a while after a refused write, and then until a write succeeds."""
    if not db.refusals.any:
        return True
    if db.refusals.lately:
        return False
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await housekeeping.try_to_write(db)
    except (DatabaseUnavailable, TimeoutError):
        return False
    db.refusals.forget()
    return True


def _forget_dead_workers(folder: Path) -> None:
    """Remove the gauges of killed workers, whose connections and streams are closed."""
    for file in folder.glob("gauge_live*_*.db"):
        worker = int(file.stem.rpartition("_")[2])
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            mark_process_dead(worker, str(folder))  # type: ignore[no-untyped-call]


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"example": "chat_api_open_streams 3.0"}}}},
)
async def metrics() -> Response:
    """Return metrics for Prometheus, added up over all workers."""
    registry: CollectorRegistry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        _forget_dead_workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})
