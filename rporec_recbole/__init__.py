"""RPORec on RecBole: a language model that reasons in text and a recommendation head that retrieves items precisely.

Importing this package makes `"RPORec"` a RecBole model and repairs RecBole for current NumPy, pandas, SciPy and torch.
"""

from rporec_recbole.host.registration import register
from rporec_recbole.runs.finished import LoadedRun, load_run
from rporec_recbole.runs.run import RunResult, run
from rporec_recbole.version import __version__

register()

__all__ = ["LoadedRun", "RunResult", "__version__", "load_run", "register", "run"]
