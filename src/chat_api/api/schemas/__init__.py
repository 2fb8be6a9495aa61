"""The bodies of requests and responses, as the OpenAPI description shows them.

Requests are validated by these models. Responses are written by PostgreSQL or by hand; a test holds
them against the models.
"""
