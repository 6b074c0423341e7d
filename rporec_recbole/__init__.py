"""RPORec on RecBole: a language model that reasons in text and a recommendation head that retrieves items precisely.

Importing this package makes `"RPORec"` a RecBole model and repairs RecBole for current NumPy, pandas, SciPy and torch.
"""

from rporec_recbole.recbole_bridge import register

__version__ = "0.1.0"

register()

__all__ = ["__version__", "register"]
