"""What every request passes first: token, size of the body, figures. Plain ASGI, since this is paid on every request."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rporec_recbole.serve.measures import Measures
from rporec_recbole.serve.problem import Problem

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset(["/health", "/ready"])
"""Paths that need no token: whoever looks after processes asks these."""

SHOWN = frozenset(["/", "/page.css", "/page.js", "/docs", "/openapi.json"])
"""What a browser loads before anybody can have typed a token: pages without a word of the run in them."""

PARTS_OF_DOCS = "/static-offline-docs/"

QUEUED = frozenset(["/recommend", "/explain"])
"""Paths whose answers the model makes."""

FAILED = Problem(500, "internal", "The service failed; its log says why. Please report it.")

_DRAINED = (
    8 << 20
)  # bytes of a body above the limit that are read and dropped, so that the client comes to read the answer


class Guard:
    """Wraps the application.

    Args:
        app: what is guarded.
        measures: gets every response.
        routes: paths that figures name; all others count as `other`.
        body_limit: bytes of a body.
        token: what `Authorization: Bearer` must say; None lets everybody in.
        check_room: raises a `Problem` while the model has too much to do. Asked before anything is read or looked up for a
            path of `QUEUED`: refusing must stay cheap when there is too much of everything.

    Attributes:
        leaving: responses ask clients to close their connections, because the service is about to end.
        accepted: how many requests have come in.
        answered: how many of them have a whole response.
    """

    def __init__(
        self,
        app: App,
        measures: Measures,
        routes: frozenset[str],
        body_limit: int,
        token: str | None,
        check_room: Callable[[], None],
    ) -> None:
        self.leaving = False
        self.accepted = self.answered = 0
        self._app = app
        self._measures = measures
        self._routes = routes
        self._limit = body_limit
        self._check_room = check_room
        self._expected = None if token is None else b"Bearer " + token.encode("utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        started = False
        self.accepted += 1

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                if self.leaving:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.answered += 1

        try:
            self._check_token(scope)
            if scope["path"] in QUEUED and scope["method"] == "POST":
                self._check_room()
            await self._app(scope, await self._bounded(scope, receive), answer)
        except Problem as problem:
            await _refuse(problem, answer)
        except Exception:
            logger.exception("%s %s failed", scope["method"], scope["path"])
            if not started:
                await _refuse(FAILED, answer)
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._measures.request(route, status, time.perf_counter() - start)

    def _check_token(self, scope: Scope) -> None:
        path = scope["path"]
        if self._expected is None or path in OPEN or path in SHOWN or path.startswith(PARTS_OF_DOCS):
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if given is None or not hmac.compare_digest(given, self._expected):
            what = "No token was sent" if given is None else "The token is wrong"
            raise Problem(
                401,
                "unauthorized",
                f"{what}. Send the header `Authorization: Bearer TOKEN` with the token that the service was started with.",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """A `receive` that hands out no more than the limit. Length may be announced, or not, or wrongly: bytes are counted."""
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit() and int(announced[:20]) > self._limit:
            await self._drain(receive, 0)
            raise self._too_large()
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._limit:
                    if message.get("more_body"):
                        await self._drain(receive, read)
                    raise self._too_large()
            return message

        return counted

    async def _drain(self, receive: Receive, read: int) -> None:
        while read < _DRAINED:
            message = await receive()
            read += len(message.get("body", b""))
            if not message.get("more_body"):
                return

    def _too_large(self) -> Problem:
        return Problem(
            413,
            "body_too_large",
            f"The body is larger than {self._limit:,} bytes. Send the newest items of the history only.",
            {"Connection": "close"},
        )


async def _refuse(problem: Problem, send: Send) -> None:
    body = problem.body()
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in problem.headers.items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
