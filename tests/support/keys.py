"""Keys of our own, to sign tokens with, and how a provider publishes them."""

import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://provider.example.org"
AUDIENCE = "chat"


@cache
def key_for(algorithm: str, name: str = "") -> Any:
    """A private key for an algorithm; another one for each name."""
    if algorithm in {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}:
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, Any] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
    return ec.generate_private_key(curves[algorithm]())


def _jwk(algorithm: str, key: Any, key_id: str | None, **members: object) -> dict[str, Any]:
    written = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key))
    written.pop("key_ops", None)
    named = {} if key_id is None else {"kid": key_id}
    return {**written, **named, "alg": algorithm, "use": "sig", **members}


def private_jwk(algorithm: str, key_id: str) -> dict[str, Any]:
    """The key of this name, as a provider has it."""
    return _jwk(algorithm, key_for(algorithm, key_id), key_id)


def public_jwk(algorithm: str, key_id: str | None, **members: object) -> dict[str, Any]:
    """The key of this name, as a provider publishes it."""
    key = key_for(algorithm, key_id or "").public_key()
    return _jwk(algorithm, key, key_id, **members)


def signed(
    algorithm: str = "ES256",
    key_id: str | None = "one",
    *,
    key: Any = None,
    headers: dict[str, Any] | None = None,
    **claims: object,
) -> str:
    """A token that is valid but for these claims and headers; a claim that is None is left out."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3600}
    wanted = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    named = {} if key_id is None else {"kid": key_id}
    return jwt.PyJWS().encode(
        json.dumps(wanted).encode(),
        key_for(algorithm, key_id or "") if key is None else key,
        algorithm,
        headers={**named, **(headers or {})},
    )
