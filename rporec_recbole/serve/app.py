"""The routes of the service, and their description."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from rporec_recbole.serve.engine import Engine
from rporec_recbole.serve.guard import FAILED, Guard
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.measures import CONTENT_TYPE, Measures
from rporec_recbole.serve.pending import count_pending
from rporec_recbole.serve.problem import Problem, shown
from rporec_recbole.serve.question import EXAMPLES, Answer, Explained, Refusal, question_schema, read_question
from rporec_recbole.serve.recommender import Recommender
from rporec_recbole.serve.web.routes import add_pages
from rporec_recbole.version import __version__

_ABOUT = """Recommendations of a trained RPORec run. A request never waits for the language model: stored reasoning counts
where there is some for the history, otherwise the trunk answers at once and the history is queued for a worker."""


class Service:
    """One application with its engine; several may live in one process.

    Args:
        recommender: answers; not open yet.
        limits: what is refused.
        token: of `Authorization: Bearer`; None lets everybody in.

    Attributes:
        engine: the model thread; starts and ends with the application.
        measures: what is counted.
        app: the ASGI application.
        api: the FastAPI application inside it.
    """

    def __init__(self, recommender: Recommender, limits: Limits, token: str | None = None) -> None:
        self.limits = limits
        self.engine = Engine(recommender, limits)
        self.measures = Measures(lambda: self.engine.waiting, lambda: count_pending(self.engine.recommender.path))
        self.engine.measures = self.measures
        self.measures.serving(recommender.version)
        self.api = self._routes(token is not None)
        paths = frozenset(
            ["/", "/docs", "/items", "/recommend", "/explain", "/health", "/ready", "/metrics", "/openapi.json"]
        )
        self.app = Guard(self.api, self.measures, paths, limits.body, token, self.engine.check_room)

    def change(self, recommender: Recommender) -> None:
        """Lets a newer run answer from now on; blocks until it does, drops nothing.

        Raises:
            StoreError: its store cannot be opened; the old run stays.
        """
        self.engine.change(recommender)
        self.measures.serving(recommender.version)

    def _routes(self, secured: bool) -> FastAPI:
        @contextlib.asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            self.engine.start(asyncio.get_running_loop())
            yield
            await asyncio.to_thread(self.engine.stop)

        # FastAPI's own /docs loads scripts from elsewhere; these come with a package.
        api = FastAPIOffline(
            title="RPORec", version=__version__, description=_ABOUT, lifespan=lifespan, docs_url="/docs", redoc_url=None
        )
        refusals: dict[int | str, dict[str, Any]] = {
            status: {"model": Refusal, "description": text}
            for status, text in (
                (413, "the body is too large"),
                (422, "the question is malformed, or names unknown items or an unknown user"),
                (429, "too many requests wait; `Retry-After` says when to ask again"),
            )
        }
        if secured:
            refusals[401] = {"model": Refusal, "description": "the token is missing or wrong"}
        content = {"schema": question_schema(self.limits), "examples": EXAMPLES}
        asked: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": content}}}
        if secured:
            asked["security"] = [{"token": []}]

        # Bodies are checked by pydantic as bytes and written from pieces: no dictionaries and no second check on the way.
        @api.post("/recommend", response_model=Answer, responses=refusals, openapi_extra=asked)
        async def recommend(request: Request) -> Response:
            """The best items for a history, or for a user of the run."""
            return await self._answer(request, explain=False)

        @api.post("/explain", response_model=Explained, responses=refusals, openapi_extra=asked)
        async def explain(request: Request) -> Response:
            """What the backbone wrote about a history, and the best items with and without it."""
            return await self._answer(request, explain=True)

        add_pages(api, lambda: self.engine.recommender, refusals)

        @api.get("/health")
        async def health() -> dict[str, str]:
            """Whether the process is alive."""
            return {"status": "ok"}

        @api.get("/ready", responses={503: {"model": Refusal, "description": "not now"}})
        async def ready() -> dict[str, Any]:
            """Whether requests are welcome; while the service ends they are not."""
            if self.app.leaving or not self.engine.alive:
                raise Problem(503, "not_ready", "The service is ending. Ask another one.")
            recommender = self.engine.recommender
            return {
                "status": "ready",
                "model_version": recommender.version,
                "uses_reasoning": recommender.uses_reasoning,
            }

        @api.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
        def metrics() -> Response:
            """Figures in Prometheus' text format."""
            return Response(self.measures.text(), headers={"Content-Type": CONTENT_TYPE})

        @api.exception_handler(Problem)
        async def refused(_: Request, problem: Problem) -> Response:
            return Response(problem.body(), problem.status, problem.headers, "application/json")

        @api.exception_handler(Exception)
        async def failed(_: Request, error: Exception) -> Response:
            return Response(FAILED.body(), FAILED.status, media_type="application/json")

        @api.exception_handler(HTTPException)
        async def elsewhere(request: Request, error: HTTPException) -> Response:
            path = shown(request.url.path)
            if error.status_code == 405:
                problem = Problem(405, "method_not_allowed", f"{path} does not take {shown(request.method)}. {_PATHS}")
            else:
                problem = Problem(error.status_code, "not_found", f"There is no {path}. {_PATHS}")
            return Response(problem.body(), problem.status, error.headers, "application/json")

        if secured:
            self._describe_token(api)
        return api

    async def _answer(self, request: Request, explain: bool) -> Response:
        question = read_question(await request.body(), self.limits)
        body = await self.engine.ask(question, explain)
        return Response(body, media_type="application/json")

    @staticmethod
    def _describe_token(api: FastAPI) -> None:
        schema = api.openapi()
        scheme = {"type": "http", "scheme": "bearer", "description": "the token that the service was started with"}
        schema.setdefault("components", {}).setdefault("securitySchemes", {})["token"] = scheme


_PATHS = (
    "There are POST /recommend and /explain, and GET /, /docs, /items, /health, /ready, /metrics and /openapi.json."
)
