"""`rporec serve`: a finished run as a service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from rporec_recbole.commands.arguments import Command, Truth, Whole, given_options, places_options, run_argument
from rporec_recbole.errors import ConfigError

HELP = """\
Recommendations over HTTP: POST /recommend and /explain, GET /health, /ready, /metrics (Prometheus) and /openapi.json. No request
waits for the language model: stored reasoning counts where there is some for the history; otherwise the trunk answers at once,
and a worker writes the reasoning for the next time. SIGTERM or Ctrl-C ends the service after what it has accepted is answered.

Needs pip install "rporec_recbole[serve]". Runs of RPORec only.
"""
_PACKAGES = ("fastapi", "fastapi_offline", "starlette", "pydantic", "uvicorn", "prometheus_client", "faiss")


@click.command(
    "serve",
    cls=Command,
    help=HELP,
    short_help="Answer over HTTP.",
    usages=(
        "rporec serve RUN [--host=127.0.0.1] [--port=8000] [--token=TOKEN] [--watch=True|FOLDER] [--index=FOLDER] [--worker=False]",
        "rporec serve RUN --worker_only=True",
    ),
)
@run_argument
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on; others than this machine should be given a token.",
)
@click.option("--port", type=Whole(), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--token",
    metavar="TOKEN",
    help="Clients must send `Authorization: Bearer TOKEN`; better given as the environment variable RPOREC_TOKEN.",
)
@click.option(
    "--watch",
    type=Truth(or_text=True),
    metavar="True|FOLDER",
    help="True: the newest finished run beside RUN, or RUN itself if it is replaced, answers without a restart; or the folder to look in.",
)
@click.option(
    "--index", metavar="FOLDER", help="What `rporec index` wrote, to search a large catalogue with; exact without it."
)
@click.option("--worker", type=Truth(), default=True, help="False: write no reasoning here.")
@click.option(
    "--worker_only",
    type=Truth(),
    default=False,
    help="Write reasoning only, beside a service on this machine (SQLite's WAL mode does not work across a network).",
)
@click.option("--top_k_limit", "top_k", type=Whole(1), help="Items of one answer (1000).")
@click.option("--history_limit", "history", type=Whole(1), help="Items of one history (1000).")
@click.option("--body_limit", "body", type=Whole(1), help="Bytes of a request (65536).")
@click.option("--queue_limit", "queue", type=Whole(1), help="Requests that may wait for the model; more get 429 (128).")
@click.option("--batch_size", "batch", type=Whole(1), help="Requests that one model call answers (32).")
@click.option("--pending_limit", "pending", type=Whole(), help="Histories that may wait for reasoning (10000).")
@places_options
@click.pass_context
def command(
    ctx: click.Context, run_dir: str, host: str, port: int, token: str | None, watch: bool | str | None, index: str | None,
    worker: bool, worker_only: bool, places: Mapping[str, str | None], **limits: int | None,
) -> None:  # fmt: skip
    """Serves a run until it is told to stop."""
    if port > 65535:
        raise ConfigError(f"`--port={port}` is no port. Give one of 1 to 65535, or 0 for any that is free.")
    path = Path(run_dir)
    if worker_only:
        superfluous = sorted(given_options(ctx).keys() - {"run_dir", "worker_only", *places})
        if superfluous:
            raise ConfigError(
                f"`--{superfluous[0]}` means nothing beside --worker_only=True, which answers no requests."
            )
    token = token or os.environ.get("RPOREC_TOKEN") or None
    if token is not None and (not token.isascii() or any(character.isspace() for character in token)):
        raise ConfigError("The token must be ASCII without spaces, since it travels in a header.")
    watched = _watched(path, watch)
    try:
        from rporec_recbole.serve.limits import Limits
        from rporec_recbole.serve.server import serve
        from rporec_recbole.serve.worker_process import run_worker
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
            raise
        raise ConfigError(
            f'`rporec serve` needs the package {error.name}. Install it with: pip install "rporec_recbole[serve]"'
        ) from error
    if worker_only:
        print(f"writing reasoning for {path}; Ctrl-C ends it", flush=True)
        print(f"{run_worker(path, lambda: False, **places):,} histories were written about")
        return
    serve(
        path,
        host=host,
        port=port,
        token=token,
        limits=Limits(**{name: limit for name, limit in limits.items() if limit is not None}),
        worker=worker,
        watch=watched,
        index=None if index is None else Path(index),
        **places,
    )


def _watched(path: Path, given: bool | str | None) -> Path | None:
    """The folder whose runs are looked at."""
    if given in (None, False):
        return None
    folder = path.resolve().parent if given is True else Path(str(given))
    if not folder.is_dir():
        raise ConfigError(f"`--watch={given}`: there is no such folder. Name one that holds run folders, or True.")
    return folder
