"""The HTTP API and the pages: an ASGI app of its own, or routers to mount in another."""
