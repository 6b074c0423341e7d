"""What each benchmark measures, how long that takes, and which files it made.

    python benchmarks/list.py [--files]

All of it stands in the benchmarks themselves and is read without running them: the first line of the docstring, `TIME`, and
`RESULTS`, which maps patterns of committed files, from the root of the repository, to the commands that made them (after a
semicolon what else there is to say). --files prints these as the table of benchmarks/README.md.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from harness import new_parser, table_head, table_row

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent


class Benchmark(NamedTuple):
    """What a script says of itself.

    Attributes:
        name: of the file, without suffix.
        measures: first line of the docstring.
        time: order of magnitude on two CPU cores.
        results: pattern of committed files -> the command that made them, and a note after a semicolon.
    """

    name: str
    measures: str
    time: str
    results: dict[str, str]


def read(script: Path) -> Benchmark | None:
    """What a script says of itself; None if it declares no `RESULTS` and so is no benchmark."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    declared: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            declared[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            declared[node.target.id] = node.value
    if "RESULTS" not in declared:
        return None
    measures = (ast.get_docstring(tree) or "").partition("\n")[0]
    time, results = (ast.literal_eval(declared[name]) for name in ("TIME", "RESULTS"))
    return Benchmark(script.stem, measures, time, results)


def benchmarks() -> list[Benchmark]:
    """All of them, by name."""
    return [one for script in sorted(FOLDER.glob("*.py")) if (one := read(script))]


def files_table() -> str:
    """Which command made which files; Markdown."""
    lines = [table_head("files", "made by")]
    for one in benchmarks():
        for pattern, made_by in one.results.items():
            command, semicolon, note = made_by.partition("; ")
            lines.append(table_row(f"`{pattern}`", f"`{command}`{semicolon}{note}"))
    return "\n".join(lines)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--files", action="store_true", help="the table of files instead, as Markdown")
    if parser.parse_args().files:
        print(files_table())
        return
    for one in benchmarks():
        print(f"{one.name}: {one.measures}\n    time: {one.time}")
        for pattern in one.results:
            print(f"    {pattern} ({len(list(ROOT.glob(pattern)))} there)")


if __name__ == "__main__":
    main()
