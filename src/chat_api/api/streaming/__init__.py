"""The response side of event streams: the client's connection, its response, its count.

`connection` is the one seam to the server, and the sink that subscriptions write to; `response`
sends a subscription's events; `open_stream` is a stream's place among the user's (`accounting`),
and watches over its token.
"""
