"""A policy over WebSocket and msgpack: the server, its wire format, and a client that is itself a policy."""
