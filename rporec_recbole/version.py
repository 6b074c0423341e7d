"""The version, in one place, and those of what a result depends on."""

import contextlib
import functools
import platform
from importlib.metadata import PackageNotFoundError, version

__version__ = "0.1.0"

_PACKAGES = (
    "rporec_recbole",
    "recbole",
    "torch",
    "transformers",
    "trl",
    "peft",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
)


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {"python": platform.python_version(), **_installed()}


@functools.cache
def _installed() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
