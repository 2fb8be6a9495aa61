"""Authentication: a bearer token becomes a User.

`authenticator` caches verdicts. They come from an auth service (`service`), or from the published
keys of an OpenID provider (`openid`, `keys`).
"""

from chat_api.auth.authenticator import Authenticator, User, Validation

__all__ = ["Authenticator", "User", "Validation"]
