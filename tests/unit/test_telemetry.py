"""Nobody is told of a run by the libraries below, unless the user says so."""

import os
import subprocess
import sys

import pytest

ASKED = "import rporec_recbole; from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"


@pytest.mark.parametrize(("said", "off"), [(None, "True"), ("0", "False")])
def test_trl_reports_to_nobody_unless_it_is_wanted(said, off):
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_TELEMETRY"}
    if said is not None:
        env["HF_HUB_DISABLE_TELEMETRY"] = said
    assert subprocess.run([sys.executable, "-c", ASKED], env=env, capture_output=True, text=True).stdout == f"{off}\n"


def test_mlflow_reports_to_nobody():
    pytest.importorskip("mlflow")
    from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY

    import rporec_recbole  # noqa: F401

    assert MLFLOW_DISABLE_TELEMETRY.get()
