"""`rporec serve`: a finished run as a service."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rporec_recbole.commands.arguments import PLACES, PLACES_HELP, options_of, split_arguments
from rporec_recbole.errors import ConfigError

HELP = """\
usage: rporec serve RUN [--host=127.0.0.1] [--port=8000] [--token=TOKEN] [--watch=True|FOLDER] [--index=FOLDER] [--worker=False]
       rporec serve RUN --worker_only=True

Recommendations over HTTP: POST /recommend and /explain, GET /health, /ready, /metrics (Prometheus) and /openapi.json. No request
waits for the language model: stored reasoning counts where there is some for the history; otherwise the trunk answers at once,
and a worker writes the reasoning for the next time. SIGTERM or Ctrl-C ends the service after what it has accepted is answered.

  --host           address to listen on; others than this machine should be given a token
  --port           0 takes a free one
  --token          clients must send `Authorization: Bearer TOKEN`; better given as the environment variable RPOREC_TOKEN
  --watch          True: the newest finished run beside RUN, or RUN itself if it is replaced, answers without a restart; or the
                   folder to look in
  --index          what `rporec index` wrote, to search a large catalogue with; exact without it
  --worker         False: write no reasoning here
  --worker_only    True: write reasoning only, beside a service on this machine (SQLite's WAL mode does not work across a network)
  --top_k_limit    items of one answer (1000)
  --history_limit  items of one history (1000)
  --body_limit     bytes of a request (65536)
  --queue_limit    requests that may wait for the model; more get 429 (128)
  --batch_size     requests that one model call answers (32)
  --pending_limit  histories that may wait for reasoning (10000)

Needs pip install "rporec_recbole[serve]". Runs of RPORec only.
"""
HELP += PLACES_HELP

_SWITCHES = ("worker", "worker_only")
_LIMITS = {
    "top_k_limit": "top_k",
    "history_limit": "history",
    "body_limit": "body",
    "queue_limit": "queue",
    "batch_size": "batch",
    "pending_limit": "pending",
}
_PACKAGES = ("fastapi", "starlette", "pydantic", "uvicorn", "prometheus_client", "faiss")


def main(arguments: Sequence[str]) -> None:
    """Serves a run until it is told to stop.

    Args:
        arguments: the words after `rporec serve`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    words, given = split_arguments(
        arguments, texts=["host", "token", "watch", "index", *PLACES], switches=[*_SWITCHES, "watch"]
    )
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
    standard = Limits()
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 8000,
        "token": None,
        "watch": None,
        "index": None,
        "worker": True,
        "worker_only": False,
        **{option: getattr(standard, name) for option, name in _LIMITS.items()},
        **PLACES,
    }
    options = options_of("serve", given, defaults)
    if len(words) != 1:
        raise ConfigError("Write `rporec serve RUN` with the folder of a finished run.")
    for key in _SWITCHES:
        if options[key] not in (True, False):
            raise ConfigError(f"`--{key}={options[key]!r}` must be True or False.")
    for key in _LIMITS:
        if options[key] == 0 and key != "pending_limit":
            raise ConfigError(f"`--{key}=0` would refuse every request. Give a whole number of at least 1.")
    if options["port"] > 65535:
        raise ConfigError(f"`--port={options['port']}` is no port. Give one of 1 to 65535, or 0 for any that is free.")
    path, places = Path(words[0]), {key: options[key] for key in PLACES}
    if options["worker_only"]:
        superfluous = sorted(given.keys() - {"worker_only", *PLACES})
        if superfluous:
            raise ConfigError(
                f"`--{superfluous[0]}` means nothing beside --worker_only=True, which answers no requests."
            )
        print(f"writing reasoning for {path}; Ctrl-C ends it", flush=True)
        print(f"{run_worker(path, lambda: False, **places):,} histories were written about")
        return
    token = options["token"] or os.environ.get("RPOREC_TOKEN") or None
    if token is not None and (not token.isascii() or any(character.isspace() for character in token)):
        raise ConfigError("The token must be ASCII without spaces, since it travels in a header.")
    serve(
        path,
        host=options["host"],
        port=options["port"],
        token=token,
        limits=Limits(**{name: options[option] for option, name in _LIMITS.items()}),
        worker=options["worker"],
        watch=_watched(path, options["watch"]),
        index=None if options["index"] is None else Path(options["index"]),
        **places,
    )


def _watched(path: Path, given: str | None) -> Path | None:
    """The folder whose runs are looked at."""
    if given in (None, "False"):
        return None
    folder = path.resolve().parent if given == "True" else Path(str(given))
    if not folder.is_dir():
        raise ConfigError(f"`--watch={given}`: there is no such folder. Name one that holds run folders, or True.")
    return folder
