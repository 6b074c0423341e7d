"""Pages of the site that are made of what they describe: the home page of README.md, settings of the YAML files, commands of their help."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
_PYTHON = """\
# Python

::: rporec_recbole.runs.run.run

::: rporec_recbole.runs.run.RunResult

::: rporec_recbole.runs.finished.load_run

::: rporec_recbole.runs.finished.LoadedRun

::: rporec_recbole.errors
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the made pages."""
    made = {
        "index.md": home((ROOT / "README.md").read_text(encoding="utf-8")),
        "reference/settings.md": settings(),
        "reference/commands.md": commands(),
        "reference/python.md": _PYTHON,
    }
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def home(readme: str) -> str:
    """README.md as a page of the site: links lose the folder that they begin in, what lies outside of it stays words."""
    inside = re.sub(r"\[([^\]]+)\]\((?:CONTRIBUTING\.md|notebooks)\)", r"\1", readme)
    return re.sub(r"\]\(docs/", "](", inside)


def settings() -> str:
    """Every setting of `properties/model/RPORec.yaml` and `properties/overall.yaml` with its default and the comments that explain it."""
    parts = [
        "# Settings",
        "Any of them is given as `--key=value`, or in a config file. RecBole's own settings work too.",
    ]
    for title, name in (("RPORec", "model/RPORec.yaml"), ("All models", "overall.yaml")):
        text = (ROOT / "properties" / name).read_text(encoding="utf-8")
        parts += [f"## {title}", f"These are the lines of `properties/{name}`.", *_sections(text)]
    return "\n\n".join(parts) + "\n"


def _sections(text: str) -> list[str]:
    """A YAML file by its sections, which begin with a line such as `# --- Text ----`."""
    start, *pairs = re.split(r"^# --- (.+?) -+$", text, flags=re.MULTILINE)
    found = [_code(start)]
    for title, lines in zip(pairs[::2], pairs[1::2], strict=True):
        found += [f"### {title}", _code(lines)]
    return found


def _code(lines: str) -> str:
    return f"```yaml\n{lines.strip()}\n```"


def commands() -> str:
    """`--help` of every command."""
    import click

    from rporec_recbole.cli import COMMANDS, group

    parts = ["# Command line"]
    for name in ("", *COMMANDS):
        one = group.get_command(click.Context(group), name) if name else group
        context = click.Context(one, info_name=name or "rporec", terminal_width=100, max_content_width=100)
        parts += [f"## {f'rporec {name}' if name else 'rporec'}", f"```text\n{one.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"
