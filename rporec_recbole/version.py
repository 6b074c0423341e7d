"""The version, in one place, and those of what a result depends on."""

import contextlib
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
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
