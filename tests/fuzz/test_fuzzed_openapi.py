"""Schemathesis against the live service: whatever the description allows, and what it does not.

All of its checks are on: no 5xx, statuses, types, headers and bodies as described, each event of a
stream as described, what is invalid refused and what is valid taken, no way past authentication.
It runs in a process of its own, since its hooks are global. With FUZZ_SECONDS (`make fuzz`) it digs
for so long.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.auth import AuthServer
from tests.support.client import Client
from tests.support.inference import Inference
from tests.support.service import StartService

ROOT = Path(__file__).parents[2]
SECONDS = os.environ.get("FUZZ_SECONDS")
# Limits on how often would answer most of what is sent here.
UNLIMITED = {"MESSAGES_PER_MINUTE": "0", "UNAUTHENTICATED_PER_MINUTE": "0"}
# A stream without an end; an upload that no JSON schema describes; the end of the user whose
# conversations all other operations need. Each has tests of its own.
EXCLUDED = {
    "/api/changes": "GET",
    "/api/import": "POST",
    "/api/me": "DELETE",
    "/api/admin/users/{user_id}": "DELETE",
}
# What needs an answer that was cut off, a message that nothing else needs, or one in the AI SDK's
# own shape.
UNREACHED = {
    ("DELETE", "/api/conversations/{conversation_id}/messages/{message_id}"),
    ("POST", "/api/conversations/{conversation_id}/continue"),
    ("POST", "/api/chat"),
}
DEPTH = ("--max-time", SECONDS) if SECONDS else ("--max-examples", "8")


def fuzz(url: str, seed: int, folder: Path, *options: str, **env: str) -> None:
    """Run it; its report is the assertion's message. `env` is for the hooks."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--checks", "all", "--seed", str(seed)),
            *("--continue-on-failure", "--no-color", "--output-sanitize", "false"),
            *(part for path in EXCLUDED for part in ("--exclude-path", path)),
            *("--request-timeout", "20", "--suppress-health-check", "all", *options),
        ],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
            "NO_PROXY": "*",
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-20_000:]}{done.stderr[-5_000:]}"


@pytest.mark.case(34)
@pytest.mark.timeout(600)
@pytest.mark.slow
async def test_every_operation_answers_as_described_whatever_is_sent(
    start_service: StartService,
    auth: AuthServer,
    inference: Inference,
    client: Client,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """As an administrator, who reaches everything; each operation must have been reached."""
    service = start_service(UNLIMITED)
    account = auth.user("fuzz", is_admin=True)
    async with Client(service.url, account) as admin:
        conversation = (await admin.create())["id"]
        answer = (await admin.ask(conversation, "Hello"))["id"]
    seed = int(request.config.getoption("hypothesis_seed"))
    named = {"FUZZ_CONVERSATION": conversation, "FUZZ_ANSWER": answer}
    token = f"Authorization: Bearer {account.token}"
    fuzz(service.url, seed, tmp_path, *DEPTH, "-H", token, **named)
    metrics = (await client.get(f"{service.url}/metrics")).text
    succeeded = set(
        re.findall(
            r'chat_api_requests_total\{method="(\w+)",route="([^"]+)",status="2\d\d"', metrics
        )
    )
    described = (await client.get(f"{service.url}/openapi.json")).json()["paths"]
    operations = {(m.upper(), path) for path, methods in described.items() for m in methods}
    operations -= {(method, path) for path, method in EXCLUDED.items()} | UNREACHED
    assert operations <= succeeded
    assert [line for line in service.logs() if line.get("event") == "request_failed"] == []


@pytest.mark.case(34)
@pytest.mark.timeout(600)
@pytest.mark.slow
async def test_every_operation_answers_as_described_without_a_token(
    start_service: StartService,
    inference: Inference,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    service = start_service(UNLIMITED)
    seed = int(request.config.getoption("hypothesis_seed"))
    fuzz(service.url, seed, tmp_path, "--phases", "examples,coverage")
    assert inference.calls == []
    assert [line for line in service.logs() if line.get("event") == "request_failed"] == []
