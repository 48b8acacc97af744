"""The HTTP server in front of the application. It bounds requests that are not complete yet.

It serves any ASGI application on `asyncio` and `httptools`, and knows nothing of webhooks. `serve` starts and
stops it, `connection` is one connection, `reader` reads requests from its bytes, `exchange` is one request as
the application knows it, `refusals` is what is answered without the application, and `gate` says what all
connections may cost together.
"""
