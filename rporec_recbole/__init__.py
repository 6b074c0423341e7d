"""RPORec on RecBole: a language model that reasons in text and a recommendation head that retrieves items precisely.

Importing this package makes `"RPORec"` a RecBole model and repairs RecBole for current NumPy, pandas, SciPy and torch.
"""

__version__ = "0.1.0"

from rporec_recbole.recbole_bridge import register
from rporec_recbole.run import LoadedRun, RunResult, load_run, run

register()

__all__ = ["LoadedRun", "RunResult", "__version__", "load_run", "register", "run"]
