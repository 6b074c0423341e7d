"""The built wheel carries the YAML files and works from another folder; what stands for Ray holds nothing."""

import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent


def test_wheel_works_outside_the_checkout(tmp_path, toy):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        str(ROOT),
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    shipped = {
        path.relative_to(site / "rporec_recbole/yaml").as_posix()
        for path in (site / "rporec_recbole/yaml").rglob("*.yaml")
    }
    assert shipped == {
        path.relative_to(ROOT / "properties").as_posix() for path in (ROOT / "properties").rglob("*.yaml")
    }
    modules = {path.relative_to(site) for path in (site / "rporec_recbole").rglob("*.py")}
    assert modules == {path.relative_to(ROOT) for path in (ROOT / "rporec_recbole").rglob("*.py")}

    from tests.toy import SHORT, TEXT

    # Without stage 2, whose libraries take seconds to import: its files are among those above.
    settings = {**SHORT, **TEXT, "stages": "[1a,1b,1c]", "data_path": toy, "run_dir": tmp_path / "run"}
    code = "import sys, rporec_recbole as r; print(r.__file__); from rporec_recbole.cli import main; sys.exit(main(sys.argv[1:]))"
    flags = ["--model=RPORec", "--dataset=toy", *[f"--{key}={value}" for key, value in settings.items()]]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(site) in done.stdout
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert not (tmp_path / "log_tensorboard").exists()


def test_what_stands_for_ray_meets_recboles_requirement_and_holds_no_module(tmp_path):
    source = shutil.copytree(
        ROOT / "packaging/ray", tmp_path / "ray", ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    options = ["--no-deps", "--no-build-isolation", "--ignore-requires-python", "--quiet", "-w", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", str(source), *options], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("ray-*.whl")
    with zipfile.ZipFile(wheel) as file:
        folders = {name.split("/")[0] for name in file.namelist()}
        assert folders == {"ray-2.0.0+absent.dist-info"}
        facts = message_from_bytes(file.read("ray-2.0.0+absent.dist-info/METADATA"))
    (needed,) = (one for one in map(Requirement, requires("recbole")) if one.name == "ray")
    assert needed.specifier.contains(facts["Version"])
    assert facts["Requires-Python"] == ">=3.12"  # where the real one can be had, pip takes that
    assert "Private :: Do Not Upload" in facts.get_all("Classifier")
    assert f'ray=={facts["Version"]}; python_version >= "3.12"' in (ROOT / "constraints.txt").read_text()
