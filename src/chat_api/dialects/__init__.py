"""Other wire formats for the same conversations.

A dialect is routes and a translator from a generation's events to the dialect's chunks. It stores
nothing, and uses what the routes of `api` use.
"""
