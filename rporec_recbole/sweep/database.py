"""The database that keeps a sweep's study: its address and driver, and one message when it cannot be reached."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from rporec_recbole.errors import SweepError, first_line
from rporec_recbole.sweep.plan import DATABASE, Plan


def engine_of(plan: Plan) -> tuple[str, dict[str, Any]]:
    """The URL of the study as SQLAlchemy shall see it, and the options of its engine."""
    url = plan.storage or f"sqlite:///{(plan.folder / DATABASE).resolve()}"
    if url.startswith("sqlite"):
        return url, {"connect_args": {"timeout": 60}}
    # The driver of the extra [sweep], whatever the version of SQLAlchemy would take.
    head, _, rest = url.partition("://")
    return ("postgresql+psycopg" if head in ("postgresql", "postgres") else head) + f"://{rest}", {
        "pool_pre_ping": True
    }


@contextlib.contextmanager
def reachable(url: str | None) -> Iterator[None]:
    """Turns what a database, its driver or their absence raises into one message.

    Args:
        url: of the study, for the message; None means SQLite.

    Raises:
        SweepError: instead of what Optuna, SQLAlchemy or a driver raised.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except optuna.exceptions.UpdateFinishedTrialError:
        raise
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, ImportError, RuntimeError) as error:
        if isinstance(error, SweepError):
            raise
        kind = (url or "sqlite").partition(":")[0]
        cause = first_line(error.__cause__ or error)
        driver = isinstance(error, ImportError) or "NoSuchModule" in type(error).__name__
        raise SweepError(
            f"The study cannot be kept in the {kind} database: {cause}. "
            + (
                'Its driver is missing; that of PostgreSQL comes with pip install "rporec_recbole[sweep]".'
                if driver
                else "Check the address after --storage=, and whether the database takes connections; the same command goes on."
            )
        ) from error
