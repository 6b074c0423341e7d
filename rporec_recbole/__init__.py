"""RPORec on RecBole: a language model that reasons in text and a recommendation head that retrieves items precisely.

After `import rporec_recbole`, `"RPORec"` is a RecBole model, and RecBole is repaired for current NumPy, pandas, SciPy and torch.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rporec_recbole.version import __version__

if TYPE_CHECKING:
    from rporec_recbole.host.registration import register
    from rporec_recbole.outputs.recommend import Run, load_run
    from rporec_recbole.runs.finished import LoadedRun
    from rporec_recbole.runs.run import RunResult, run
    from rporec_recbole.tables.frames import from_frames

_WHERE = {
    "LoadedRun": "runs.finished",
    "Run": "outputs.recommend",
    "RunResult": "runs.run",
    "from_frames": "tables.frames",
    "load_run": "outputs.recommend",
    "register": "host.registration",
    "run": "runs.run",
}
_LIGHT = frozenset(["cli", "commands", "cot", "errors", "settings", "tables", "text", "version"])
"""Rooms that need neither torch nor RecBole, which take seconds to import: what the command line reads before it knows that there is
something to do, and what shows a run's texts."""

# What trains and watches for us would tell its makers of each run; nobody who installs this has been asked.
for _reports in ("HF_HUB_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY"):
    os.environ.setdefault(_reports, "1")

__all__ = ["LoadedRun", "Run", "RunResult", "__version__", "from_frames", "load_run", "register", "run"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Registration(importlib.abc.MetaPathFinder):
    """Registers RPORec when RecBole, or the first room of this package that needs it, is imported.

    At that moment no file of ours that needs RecBole has begun to be read, so they may import each other in any order.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, room = name.partition(".")
        if name != "recbole" and (package != __name__ or "." in room or room in _LIGHT):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                importlib.import_module(f"{__name__}.host.registration").register()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if "recbole" in sys.modules:
    importlib.import_module(f"{__name__}.host.registration").register()
else:
    sys.meta_path.insert(0, _Registration())
