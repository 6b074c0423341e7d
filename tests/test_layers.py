"""The rooms of the house: a file imports from its own room and from rooms that stand above it in the list, never from one below;
and each outside package has its fence. A new file in a room needs no line here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rporec_recbole"

# In import order; docs/architecture.md explains them. A name is a folder, or a file that lies loose at the top.
ROOMS = [
    "version",
    "errors",
    "settings",
    "tables",
    "text",
    "cot",
    "data",
    "evaluation",
    "backbone",
    "model",
    "rivals",
    "rewards",
    "training.state",
    "training.stage1",
    "training.stage2",
    "training",
    "host",
    "runs",
    "outputs",
    "explain",
    "serve",
    "sweep",
    "commands",
    "cli",
]

# Outside package -> rooms or files that may import it.
FENCES = {
    "recbole": {"host", "data", "model.rporec", "rivals", "training"},
    "transformers": {"backbone", "training.stage2.grpo"},
    "tokenizers": {"backbone.tiny"},
    "peft": {"backbone"},
    "vllm": {"backbone.vllm_engine"},
    "trl": {"training.stage2.grpo"},
    "datasets": {"tables.columnar", "training.stage2.grpo"},
    "sklearn": {"model.encoder", "rivals.codes"},
    "sentence_transformers": {"model.sentences"},
    "matplotlib": {"evaluation.plots"},
    "optuna": {"sweep"},
    "sqlalchemy": {"sweep.database"},
    "pyarrow": {"outputs.table_file", "tables"},
    "faiss": {"serve.index"},
    "fastapi": {"serve.app", "serve.web"},
    "fastapi_offline": {"serve.app"},
    "starlette": {"serve.app"},
    "pydantic": {"serve.question"},
    "prometheus_client": {"serve.measures"},
    "uvicorn": {"serve.server"},
    "wandb": {"runs.trackers"},
    "mlflow": {"runs.trackers"},
    "click": {"commands", "cli"},
    "pickle": set(),
}


def modules(package: Path) -> dict[str, set[str]]:
    """module -> dotted names that it imports; an `__init__` counts as its folder."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and name != "__main__":  # the package's own `__init__` and `__main__` are its front doors
            found[name] = imports(path)
    return found


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


def room_of(module: str) -> str | None:
    """The innermost room that a module lies in."""
    return max((room for room in ROOMS if within(module, {room})), key=len, default=None)


def forbidden(package: Path) -> Iterator[str]:
    """Every import that the list or a fence forbids."""
    known = modules(package)
    for module, imported in sorted(known.items()):
        here = room_of(module)
        if here is None:
            yield f"{module} lies in no room"
            continue
        own = {name.removeprefix("rporec_recbole.") for name in imported if name.startswith("rporec_recbole.")}
        for name in sorted(own & set(known)):
            there = room_of(name)
            if there is not None and ROOMS.index(there) > ROOMS.index(here):
                yield f"{module} imports {name}, which stands below it"
        for outside, places in FENCES.items():
            if within(module, places):
                continue
            if any(within(name, {outside}) for name in imported):
                yield f"{module} imports {outside} outside its fence"


def test_the_house_keeps_its_rules():
    assert list(forbidden(PACKAGE)) == []


def test_every_room_is_there():
    known = modules(PACKAGE)
    assert [room for room in ROOMS if room not in known] == []
    assert len(ROOMS) <= 24


def test_files_import_in_no_circle():
    graph = {
        module: {name.removeprefix("rporec_recbole.") for name in imported if name.startswith("rporec_recbole.")}
        for module, imported in modules(PACKAGE).items()
    }
    left = {module: {name for name in names if name in graph and name != module} for module, names in graph.items()}
    while free := [module for module, names in left.items() if not names & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_files_are_short():
    long = {path.name: path.read_text(encoding="utf-8").count("\n") for path in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > 330} == {}


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("text/new.py", "from rporec_recbole.model.rporec import RPORec", "text.new imports model.rporec, which"),
        ("training/stage1/new.py", "from rporec_recbole.training.stage2 import grpo", "training.stage1.new imports"),
        ("runs/new.py", "import trl", "runs.new imports trl outside its fence"),
        ("loose.py", "", "loose lies in no room"),
        ("serve/new.py", "from rporec_recbole.model.rporec import RPORec", None),
        ("training/stage2/new.py", "from rporec_recbole.training.stage1.rows import x", None),
        ("backbone/new.py", "import peft", None),
    ],
)
def test_a_forbidden_import_is_seen_in_either_direction(tmp_path: Path, file: str, line: str, said: str | None):
    for known in ("model/rporec.py", "training/stage2/grpo.py", "training/stage1/rows.py", file):
        path = tmp_path / known
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line if known == file else "", encoding="utf-8")
    found = list(forbidden(tmp_path))
    assert (not found) if said is None else (len(found) == 1 and found[0].startswith(said))
