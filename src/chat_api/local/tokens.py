"""The local stack's tokens: JWTs signed with a key that is made on first use.

HS256: the service that issues them is the one that validates them, so there is no one to whom a
public key would have to be given.
"""

import re
import time
import unicodedata
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt

from chat_api.local.errors import LocalError
from chat_api.local.state import State

_ALGORITHM = "HS256"
_ISSUER = "samosachaat-local"
_USERS = uuid.UUID("6f0e3b5a-9d0c-5a63-8e53-6d3f3c1b7a52")
_NAME_CHARS = 80


class InvalidToken(Exception):  # what is wrong is its text, for the caller
    """The token is not valid, or not any more; the text is the reason."""


def mint_token(state: Path, name: str, admin: bool, ttl_seconds: int) -> str:
    """Return a token for the user of that name, valid for so many seconds.

    The same name is always the same user. The state folder and the key are made if missing.
    Raise LocalError if it is no name.
    """
    return sign_token(State(state).secret("auth"), name, admin, ttl_seconds)


def sign_token(key: str, name: str, admin: bool, ttl_seconds: int) -> str:
    """Return a token signed with this key; see `mint_token`."""
    name = unicodedata.normalize("NFC", name.strip())
    if not name or len(name) > _NAME_CHARS or not name.isprintable():
        raise LocalError(f"A name has 1 to {_NAME_CHARS} printable characters.")
    now = int(time.time())
    claims = {
        "iss": _ISSUER,
        "sub": str(uuid.uuid5(_USERS, name)),
        "name": name,
        "email": f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'user'}@localhost",
        "is_admin": admin,
        "iat": now,
        "exp": now + ttl_seconds,
    }
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


def read_token(key: str, token: str) -> Mapping[str, Any]:
    """Return the claims of a token that `key` has signed. Raise InvalidToken."""
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            options={"require": ["sub", "exp"]},
        )
    except jwt.ExpiredSignatureError:
        raise InvalidToken("the token has expired") from None
    except jwt.InvalidSignatureError:
        raise InvalidToken("the token's signature is wrong") from None
    except (jwt.InvalidTokenError, ValueError):
        raise InvalidToken("this is not a token of this service") from None
    return claims
