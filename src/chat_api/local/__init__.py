"""The local stack: PostgreSQL, an auth service, a real model, and the command that runs them.

Nothing in here is needed to run the chat API itself; the packages come with the extra `local`.
"""
