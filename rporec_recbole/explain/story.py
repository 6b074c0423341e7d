"""What a run has to say about itself, in words that a newcomer knows: figures beside those of others, curves, files. No HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rporec_recbole.settings.known import RIVALS
from rporec_recbole.settings.types import STAGES

Points = Sequence[tuple[int, float]]

FILES = {
    "metrics.json": "all figures in full precision, seconds by stage, versions",
    "ranks.parquet": "the rank of every hidden item, user by user",
    "lists.parquet": "the 20 best items of every user whose item was hidden",
    "config.yaml": "every setting; --config_files=config.yaml repeats the run",
    "curves.png": "all curves of the training",
    "log.txt": "everything that was said while it ran",
    "tensorboard": "the curves, for TensorBoard",
    "head.safetensors": "trunk and fusion, as trained",
    "backbone": "the language model, an ordinary Hugging Face folder",
    "encoder": "what turns texts into vectors",
    "reasoning.sqlite": "every text that the language model wrote (rporec cots show)",
    "positions.parquet": "which interaction taught which stage",
    "model.safetensors": "the model, as trained",
    "controls.png": "what else could the gain come from",
    "controls.json": "the same, in figures",
}
"""What may lie in a run folder: name -> what it is."""


def files_of(folder: Path) -> dict[str, str]:
    """What lies there: name -> what it is."""
    return {name: what for name, what in FILES.items() if (folder / name).exists()}


def what_was_run(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """What was done, in a few sentences."""
    split = next(iter((config.get("eval_args") or {}).get("split") or {"LS": None}))
    hidden = "newest item" if split == "LS" else "newest items"
    seen = (
        "items that the user had before are left out"
        if metrics["hide_seen"]
        else "items that the user had before are ranked too"
    )
    had = f"{metrics['users']:,} users and {metrics['candidates']:,} items."
    ranked = f"the model ranked the items for that user ({seen}), and the higher the kept item stands in its list, the better."
    if "time_split" in metrics:
        said = [f"{had} {_cut_in_time(metrics['time_split'], ranked)} Nothing was chosen by the test split."]
    else:
        said = [
            f"{had} Of each user the {hidden} was kept out of the training, {ranked} That is the test split. Validation is the same one step "
            "earlier. Nothing was chosen by the test split."
        ]
    if metrics["model"] == "RPORec":
        ran = [stage for stage in STAGES if any(name.partition(",")[0] == stage for name in metrics["stages"])]
        said.append(
            "RPORec has a trunk, which ranks items from the ids in a user's history alone, and a language model, which reads the same history as text "
            "and writes what the user may want next. A fusion lets that text move the trunk's ranking, as far as it was worth it. "
            f"Stages: {', '.join(f'{stage} ({STAGES[stage]})' for stage in ran)}."
        )
    else:
        whose = "built from its paper beside RPORec" if metrics["model"] in RIVALS else "a model of RecBole's"
        said.append(f"{metrics['model']} is {whose}, trained and evaluated under the same rules as RPORec.")
    return said


def _cut_in_time(cut: Mapping[str, Any], ranked: str) -> str:
    first, second = cut["cuts"]
    new = [
        f"{cut['test'][key]:,} are of {words}" for key, words in (("of_new_users", "users"), ("of_new_items", "items"))
    ]
    return (
        f"What happened before {first} taught the model: {cut['train']['interactions']:,} interactions. What came then, up to {second}, is validation, and "
        f"what came from then on is the test split: for each of its {cut['test']['targets']:,} kept items {ranked} Of these, {' and '.join(new)} "
        "that the training never met."
    )


def what_texts_count(metrics: Mapping[str, Any]) -> str | None:
    """How much the run lets its texts count; None where it wrote none or made no choice."""
    chosen = metrics["stages"].get("strength")
    if not chosen or "chosen" not in chosen:
        return None
    fusion, answers = chosen["chosen"], chosen.get("answers", 0.0)
    if not fusion and not answers:
        return (
            "The texts count 0 in the end: on positions that were held out for this choice, no weight of them ranked better than none. The ranking is "
            "the trunk's."
        )
    return (
        f"How much the texts count was chosen on positions that were held out for this: the fusion with {fusion:g} of 1, the items that answers name "
        f"with {answers:g} of 1."
    )


def what_stage_2_brought(metrics: Mapping[str, Any]) -> str | None:
    """What reinforcement learning was worth on validation, and whether it was kept; None where nothing judged it."""
    rounds = metrics.get("rounds", [])
    if not rounds or rounds[0]["round"] != 0:
        return None
    before, after = rounds[0]["score"], rounds[-1]["score"]
    kept = next(one["round"] for one in rounds if one["kept"])
    said = f"Reinforcement learning (stages 2 and 2b): {before:.4f} on validation before, {after:.4f} after it. "
    if len(rounds) > 2:
        return said + (f"Round {kept} of {len(rounds) - 1} was kept." if kept else "What was there before was kept.")
    return said + ("It was kept." if kept else "So everything was put back to what it was before.")


def what_to_ask_next(metrics: Mapping[str, Any], folder: str) -> str | None:
    """How one finds out what a gain comes from; None for a run whose texts were never weighed."""
    if "strength" not in metrics["stages"]:
        return None
    return (
        f"Whether it is the reasoning that helps, other things ask: `rporec controls {folder}` ranks the test split without texts, with another user's, with the bare "
        "history in their place, with a second trunk, with texts that know the answer for one user in ten and more, and writes controls.png and "
        "controls.json beside this page. `--controls` does it at the end of a run."
    )


def results_of(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """Who was ranked, in words -> split -> metrics; the run itself first."""
    others = metrics.get("beside", {})
    own = {split: metrics[split] for split in ("valid", "test") if split in metrics}
    found: dict[str, Mapping[str, Mapping[str, float]]] = {"this run": own}
    if "trunk" in others:
        found["its trunk alone, without the texts"] = others["trunk"]
    elif "strength" in metrics["stages"]:
        found["its trunk alone: the same, for the texts count 0"] = own
    if "Pop" in others:
        found["the most popular items, the same for everybody"] = others["Pop"]
    return found


def shown_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics worth a column: HR, NDCG and MRR at 10 or, where that was not measured, at the largest depth; else the first three."""
    own = metrics.get("test") or metrics.get("valid") or {}
    depths = sorted({int(name.partition("@")[2]) for name in own if name.partition("@")[2].isdigit()})
    if not depths:
        return list(own)[:3]
    depth = 10 if 10 in depths else depths[-1]
    found = [f"{name}@{depth}" for name in ("hit", "ndcg", "mrr") if f"{name}@{depth}" in own]
    return found or list(own)[:3]


def what_answers_know(metrics: Mapping[str, Any]) -> list[str]:
    """How good the writer's own answers are, a sentence for each split."""
    said = []
    for split, words in (("test", "Test"), ("valid", "Validation")):
        found = metrics.get("answers", {}).get(split)
        if found:
            own, popular = found["hit@10"], found["pop hit@10"]
            beside = "more" if own > popular else "less" if own < popular else "no more"
            said.append(
                f"{words}: the kept item is among the ten items that the language model would answer with for {own:.1%} of the users. That is {beside} "
                f"than the ten most popular items have ({popular:.1%}). {found['named']:.0%} of its answers name an item, {found['distinct']:,.0f} different ones."
            )
    return said


def key_curves(curves: Mapping[str, Points]) -> dict[str, Points]:
    """Four curves that say most, by what they are in words."""
    wanted = (
        (
            "Trunk: how well it ranks validation, by epoch",
            lambda n: n.startswith("1a trunk/") and not n.endswith("/loss"),
        ),
        (
            "Language model: its loss while it learns to write, by step",
            lambda n: n.startswith("1b") and "warm-up" in n and n.endswith("/loss"),
        ),
        ("Fusion: its loss on validation, by epoch", lambda n: n.startswith("1c") and n.endswith("/valid loss")),
        ("Reinforcement learning: what a text earns, by step", lambda n: n.startswith("2 ") and n.endswith("/reward")),
        ("How well the model ranks validation, by epoch", lambda n: n.startswith("train/") and not n.endswith("/loss")),
        ("Its loss in training, by epoch", lambda n: n == "train/loss"),
        (
            "Refreshed trunk: how well it ranks validation, by epoch",
            lambda n: n.startswith("refresh trunk/") and not n.endswith("/loss"),
        ),
        ("Trunk: its loss, by epoch", lambda n: n == "1a trunk/loss"),
    )
    found: dict[str, Points] = {}
    for words, holds in wanted:
        name = next((one for one in curves if holds(one) and curves[one]), None)
        if name is not None and len(found) < 4:
            found[words] = curves[name]
    return found
