"""The layers: a module imports only from modules above its own line, and each outside package has its fence."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rporec_recbole"

# In import order; docs/architecture.md explains the groups.
ORDER = [
    "version",
    "errors",
    "properties",
    "settings",
    "settings_reader",
    "ranking",
    "memory",
    "compat",
    "text.catalogue",
    "text.completions",
    "text.mentions",
    "text.prompts",
    "cot.compose",
    "cot.counting",
    "cot.quality",
    "cot.owners",
    "cot.salvage",
    "cot.store",
    "cot.report",
    "cot.reasoner",
    "cot.substitutes",
    "data.ladder",
    "data.atomic",
    "data.digest",
    "data.seen",
    "data.dataset",
    "data.batches",
    "data.histories",
    "model.sentences",
    "model.encoder",
    "model.history_text",
    "model.trunk",
    "model.rechead",
    "model.fusedhead",
    "model.texthead",
    "model.losses",
    "model.retrieval",
    "backbone.tiny",
    "backbone.choice",
    "backbone.drafts",
    "backbone.kv_cache",
    "backbone.screening",
    "backbone.engine",
    "backbone.rendering",
    "backbone.lora",
    "backbone.model",
    "backbone.vllm_engine",
    "backbone.entropy",
    "backbone.load",
    "model.rporec",
    "rewards.record",
    "rewards.ranking_parts",
    "rewards.text_parts",
    "rewards.gates",
    "rewards.parts",
    "rewards.rechead_reward",
    "evaluation.ranks",
    "evaluation.significance",
    "evaluation.compare",
    "evaluation.tables",
    "evaluation.plots",
    "training.recorder",
    "training.resume",
    "training.positions",
    "training.trunk",
    "training.warmup",
    "training.fusion",
    "training.rows",
    "training.head_reward",
    "training.crossfit",
    "training.best_of",
    "training.processes",
    "training.policy",
    "training.shared_prompts",
    "training.rollout",
    "training.rl",
    "training.watch",
    "training.signs",
    "training.checkpoint",
    "training.refinement",
    "training.rounds",
    "training.stage_state",
    "training.head_stages",
    "training.backbone_stages",
    "training.start",
    "training.checks",
    "training.helpers",
    "training.trainer",
    "recbole_rules",
    "recbole_bridge",
    "recbole_data",
    "baseline",
    "run_folder",
    "start_from",
    "finished_run",
    "scoring",
    "table_file",
    "recommend",
    "export",
    "serve.index_options",
    "serve.index",
    "serve.retriever",
    "serve.run_index",
    "explain.titles",
    "explain.facts",
    "explain.explanation",
    "explain.page",
    "serve.problem",
    "serve.limits",
    "serve.question",
    "serve.pending",
    "serve.stored",
    "serve.rows",
    "serve.recommender",
    "serve.answers",
    "serve.measures",
    "serve.engine",
    "serve.guard",
    "serve.app",
    "serve.worker",
    "serve.worker_process",
    "serve.reload",
    "serve.server",
    "controls",
    "run",
    "comparison",
    "sweep.space",
    "sweep.plan",
    "sweep.database",
    "sweep.study",
    "sweep.report",
    "sweep.search",
    "commands.arguments",
    "commands.doctor",
    "commands.cots",
    "commands.controls",
    "commands.compare",
    "commands.sweep",
    "commands.explain",
    "commands.recommend",
    "commands.export",
    "commands.index",
    "commands.serve",
    "commands.train",
    "cli",
]

FENCES = {
    "recbole": {
        "compat",
        "data.dataset",
        "data.batches",
        "data.histories",
        "data.seen",
        "model.rporec",
        "training.crossfit",
        "training.head_reward",
        "training.rows",
        "training.trunk",
        "training.start",
        "training.trainer",
        "recbole_bridge",
        "recbole_data",
    },
    "transformers": {"backbone.tiny", "backbone.kv_cache", "backbone.model", "backbone.load", "training.rl"},
    "tokenizers": {"backbone.tiny"},
    "peft": {"backbone.lora", "backbone.load"},
    "vllm": {"backbone.vllm_engine"},
    "trl": {"training.rl"},
    "datasets": {"training.rl"},
    "sklearn": {"model.encoder"},
    "sentence_transformers": {"model.sentences"},
    "matplotlib": {"evaluation.plots"},
    "optuna": {"sweep.database", "sweep.study"},
    "sqlalchemy": {"sweep.database"},
    "pyarrow": {"table_file"},
    "faiss": {"serve.index"},
    "fastapi": {"serve.app"},
    "starlette": {"serve.app"},
    "pydantic": {"serve.question"},
    "prometheus_client": {"serve.measures"},
    "uvicorn": {"serve.server"},
    "pickle": set(),
}


def modules() -> dict[str, Path]:
    paths = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    return {name: path for name, path in paths.items() if not name.endswith("__init__")}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_place():
    assert sorted(modules()) == sorted(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_upwards(name):
    allowed = set(ORDER[: ORDER.index(name)])
    if name == "recbole_bridge":
        return  # registration names the classes that RecBole shall find
    own = {i.removeprefix("rporec_recbole.") for i in imports(modules()[name]) if i.startswith("rporec_recbole.")}
    assert {i for i in own if i in ORDER} <= allowed


@pytest.mark.parametrize("package", FENCES)
def test_fences(package):
    users = {n for n, p in modules().items() if any(i == package or i.startswith(package + ".") for i in imports(p))}
    assert users <= FENCES[package]
