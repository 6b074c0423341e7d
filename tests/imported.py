"""What the server of `started.py` imports before it forks. Nothing here computes with torch: a fork does not copy the threads of that."""

import gc
import importlib

LATE = (
    "fastapi_offline",
    "optuna.importance",
    "optuna.storages",
    "optuna.visualization.matplotlib",
    "PIL.PngImagePlugin",
    "matplotlib.backends.backend_agg",
    "prometheus_client",
    "rporec_recbole.explain.run_page",
    "rporec_recbole.outputs.recommend",
    "rporec_recbole.runs.controls",
    "rporec_recbole.runs.run",
    "rporec_recbole.training.stage2.refinement",
    "tensorboard.plugins.hparams.api",
    "transformers.models.qwen3.modeling_qwen3",
    "uvicorn",
)
"""What a run, a search and a service need; most of it is imported by functions of the package. An extra may be missing."""

for name in LATE:
    try:
        importlib.import_module(name)
    except ImportError:
        if name.startswith("rporec_recbole"):
            raise
gc.collect()
gc.freeze()  # the collector need not look through all of it again in each process
