"""`GET /`, its files, and the search for items that it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response

from rporec_recbole.serve.items import LONGEST, MOST
from rporec_recbole.serve.problem import Problem
from rporec_recbole.serve.question import Described, Found
from rporec_recbole.serve.recommender import Recommender

FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def add_pages(api: FastAPI, serving: Callable[[], Recommender], refusals: dict[int | str, dict[str, Any]]) -> None:
    """Adds the page and `GET /items`.

    Args:
        api: the application.
        serving: the recommender that answers now.
        refusals: how refusals are described.
    """
    for path, (name, kind) in FILES.items():
        _add_file(api, path, (Path(__file__).parent / name).read_bytes(), kind)

    @api.get("/items", response_model=Found, responses={422: refusals[422]})
    def items(request: Request, query: str = "", limit: str = "20") -> Found:
        """Items in whose titles all words of `query` stand."""
        if len(query) > LONGEST:
            raise Problem(422, "invalid", f"`query` has {len(query):,} characters; at most {LONGEST} are allowed.")
        if not limit.isdecimal() or not 1 <= int(limit[:9]) <= MOST:
            raise Problem(422, "invalid", f"`limit` must be a whole number from 1 to {MOST}.")
        found = serving().search.find(query, int(limit))
        return Found(items=[Described(item=one.item_id, title=one.title, details=one.details) for one in found])


def _add_file(api: FastAPI, path: str, content: bytes, kind: str) -> None:
    @api.get(path, include_in_schema=False)
    def file() -> Response:
        return Response(content, headers=_HEADERS, media_type=f"{kind}; charset=utf-8")
