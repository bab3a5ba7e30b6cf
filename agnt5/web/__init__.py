"""The HTTP API and the pages: an ASGI app of its own, or a router to include in another FastAPI app.

`create_api()` gives the app, `api_router()` the router. Needs the extra `web` (FastAPI).
"""

from agnt5.web.app import api_router, create_api
from agnt5.web.identity import SCOPES, Identity
from agnt5.web.tokens import Token
from agnt5.web.wiring import ALLOWED_HEADERS, Web

__all__ = ["ALLOWED_HEADERS", "SCOPES", "Identity", "Token", "Web", "api_router", "create_api"]
