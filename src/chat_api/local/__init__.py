"""The neighbours on your own machine: PostgreSQL, an auth service, a real model, and the stack.

Nothing in here is needed to run the chat API itself; the packages come with the extra `local`.
"""
