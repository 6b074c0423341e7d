"""Build script. Facts stand in pyproject.toml; here is only what it cannot say.

`properties/` lies outside the package, beside RecBole users' own YAML files, and travels in the wheel as
`rporec_recbole/yaml`.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["rporec_recbole*"]),
        "rporec_recbole.yaml",
        "rporec_recbole.yaml.model",
        "rporec_recbole.yaml.dataset",
        "rporec_recbole.yaml.presets",
        "rporec_recbole.yaml.backbone",
        "rporec_recbole.yaml.reward",
        "rporec_recbole.yaml.sweep",
    ],
    package_dir={
        "rporec_recbole.yaml": "properties",
        "rporec_recbole.yaml.model": "properties/model",
        "rporec_recbole.yaml.dataset": "properties/dataset",
        "rporec_recbole.yaml.presets": "properties/presets",
        "rporec_recbole.yaml.backbone": "properties/backbone",
        "rporec_recbole.yaml.reward": "properties/reward",
        "rporec_recbole.yaml.sweep": "properties/sweep",
    },
    package_data={
        "rporec_recbole": ["py.typed"],
        "rporec_recbole.explain": ["style.css"],
        "rporec_recbole.serve.web": ["*.html", "*.css", "*.js"],
        "rporec_recbole.yaml": ["*.yaml"],
        "rporec_recbole.yaml.model": ["*.yaml"],
        "rporec_recbole.yaml.dataset": ["*.yaml"],
        "rporec_recbole.yaml.presets": ["*.yaml"],
        "rporec_recbole.yaml.backbone": ["*.yaml"],
        "rporec_recbole.yaml.reward": ["*.yaml"],
        "rporec_recbole.yaml.sweep": ["*.yaml"],
    },
)
