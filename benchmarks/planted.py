"""Reasoning where it must pay: a planted world whose next item follows from the order of words, with its best NDCG known.

    python benchmarks/planted.py [--seeds=2020,2021,2022] [--users=1000] [--colours=12] [--rl_steps=60] [--turned=0.6]
                                 [--only=trunk,plain,turned] [--dir=saved/planted] [--out=FILE]

Two worlds for each seed (`planted_world.py`), all with fresh draws. Nothing is hidden in them: every flag is a candidate for everybody.
`plain`: the rule holds in 4 of 5 steps. Shown are the trunk alone, which learns from all positions, and RPORec with all
stages. `turned`: in the early steps, from which the writer learns, the rule's circle mostly runs the other way round; shown is
RPORec after stage 1 and after stage 2, which starts from there. What stage 2 takes is the share of what stage 1 left
of the best NDCG. Beside each figure of the ranking stand what the texts are worth: how many are well-formed, how many of
these name a flag that the rule allows, and how many name one that it would allow with the circle turned.

Prints the tables and writes all numbers to --out. What is finished is not run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    RESULTS_DIR,
    add_seeds,
    metrics_of,
    names,
    new_parser,
    read_json,
    run_once,
    table_head,
    table_row,
    write_json,
)
from planted_world import NAME, SETTINGS, World

TIME = "ten minutes a seed"
RESULTS = {"benchmarks/results/planted.json": "python benchmarks/planted.py"}
METRIC = "ndcg@10"
COMMON: dict[str, Any] = {
    **SETTINGS,
    "MAX_ITEM_LIST_LENGTH": 12,
    "backbone": "tiny-nano",
    "prompt_items": 2,
    "max_prompt_tokens": 48,
    "max_new_tokens": 56,
    "stream_passes": 0,
    "warmup_passes": 6,
    "warmup_batch_size": 8,
    "warmup_learning_rate": 0.006,
    "answers_learning_rate": 0.1,
    "fusion_epochs": 100,
}
"""Every history is short, so texts teach as much as lists do: many small steps of a small writer, and an expert that may trust it fully."""
STAGE_2: dict[str, Any] = {
    "rl_prompts": 32,
    "group_size": 8,
    "rl_learning_rate": 0.0003,
    "rl_validate_every": 10,
    "rl_patience": 10,
    "reward_gates": ["format"],
}
FIRST = ["1a", "1b", "1c"]


def texts_of(folder: Path, world: World) -> dict[str, float]:
    """What the texts of the test users are worth: shares of all users.

    Args:
        folder: a finished run with reasoning.
        world: whose data it ran on.
    """
    from rporec_recbole import load_run

    run = load_run(folder)
    model, rows = run.model, run.loaders["test"].dataset.inter_feat
    flag = [-1, *(int(token[1:]) for token in run.dataset.field2id_token[model.ITEM_ID][1:])]
    of_line = {line: flag[item] for item, line in enumerate(model.catalogue.lines)}
    _, written = model.reasoning(rows, model.evaluation_decoding, "texts")
    counts = {"well-formed": 0, "obey": 0, "turned": 0}
    for history, texts in zip(rows[model.ITEM_SEQ].tolist(), written, strict=True):
        before, newest = [np.array(flag[item]) for item in history if item][-2:]
        one = texts[0]
        counts["well-formed"] += one.well_formed
        for name, turn in (("obey", 1), ("turned", -1)):
            counts[name] += one.well_formed and of_line.get(one.answer, -1) in world.follows(before, newest, turn)
    model.reasoner.store.close()
    return {name: count / len(rows) for name, count in counts.items()}


class Bench:
    """Runs and figures of some seeds.

    Args:
        folder: of data and runs.
        out: file of the figures.
        world: sizes; the seed and what is turned are set for each run.
        rl_steps: of stage 2.
    """

    def __init__(self, folder: Path, out: Path, world: dict[str, Any], rl_steps: int) -> None:
        self._folder, self._out, self._world, self._rl_steps = folder, out, world, rl_steps
        self.found: dict[str, dict[str, float]] = read_json(out, {})

    def measure(self, name: str, seed: int, settings: dict[str, Any], turned: float = 0.0) -> Path:
        """One run, and its figures among those that were found."""
        world = World(**self._world, turned=turned, seed=seed)
        parent = self._folder / f"seed={seed}" / f"turned={turned:g}"
        if not (parent / NAME).is_dir():
            world.write(parent)
        folder, key = parent / name, f"{name}; {seed}"
        if key not in self.found:
            run_once(folder, "RPORec", NAME, {**COMMON, **settings, "seed": seed}, str(parent))
            metrics = metrics_of(folder)
            self.found[key] = {
                METRIC: metrics["test"][METRIC],
                "best": world.best_ndcg(),
                "seconds": sum(stage["seconds"] for stage in metrics["stages"].values()),
                **(texts_of(folder, world) if settings["stages"] != ["1a"] else {}),
            }
            write_json(self._out, self.found)
        return folder

    def trunk(self, seed: int) -> None:
        """The trunk alone, with all positions and as many epochs as it wants."""
        self.measure("trunk alone", seed, {"stages": ["1a"], "ladder": False})

    def plain(self, seed: int) -> None:
        """All stages on the plain world."""
        self.measure(
            "RPORec", seed, {"stages": [*FIRST, "2", "2b", "refresh"], **STAGE_2, "rl_steps": self._rl_steps // 3}
        )

    def turned(self, seed: int, share: float) -> None:
        """Stage 1 on the turned world, and stage 2 behind it."""
        first = self.measure("stage 1", seed, {"stages": FIRST}, share)
        later = {"stages": [*FIRST, "2", "2b"], "start_from": str(first), **STAGE_2, "rl_steps": self._rl_steps}
        self.measure("stages 1 and 2", seed, later, share)

    def show(self, seeds: list[int]) -> None:
        """Prints what was found for these seeds."""
        print(table_head("run", METRIC, "of the best", "each", "obey", "turned", "well-formed", "seconds"))
        kinds = list(dict.fromkeys(key.split("; ")[0] for key in self.found))
        for kind in kinds:
            ones = [self.found[f"{kind}; {seed}"] for seed in seeds if f"{kind}; {seed}" in self.found]
            shares = [one[METRIC] / one["best"] for one in ones]
            texts = [
                f"{np.mean([one[name] for one in ones]):.3f}" if all(name in one for one in ones) else ""
                for name in ("obey", "turned", "well-formed")
            ]
            print(
                table_row(
                    kind,
                    f"{np.mean([one[METRIC] for one in ones]):.4f}",
                    f"{np.mean(shares):.3f}",
                    " ".join(f"{share:.3f}" for share in shares),
                    *texts,
                    f"{np.mean([one['seconds'] for one in ones]):.0f}",
                )
            )
        for seed in seeds:
            pair = [self.found.get(f"{kind}; {seed}") for kind in ("stage 1", "stages 1 and 2")]
            if pair[0] and pair[1]:
                left = pair[0]["best"] - pair[0][METRIC]
                taken = pair[1][METRIC] - pair[0][METRIC]
                print(f"seed {seed}: stage 1 left {left:.4f}, stage 2 took {taken:+.4f}, {taken / left:.2f} of it")


def main() -> None:
    parser = new_parser(__doc__)
    add_seeds(parser)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--colours", type=int, default=12)
    parser.add_argument("--cloths", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--rl_steps", type=int, default=60, help="in the turned world; a third of it in the plain one")
    parser.add_argument("--turned", type=float, default=0.6, help="share of the early steps whose circle is turned")
    parser.add_argument("--only", type=names, default="trunk,plain,turned")
    parser.add_argument("--dir", type=Path, default=Path("saved/planted"))
    parser.add_argument("--out", type=Path, default=RESULTS_DIR / "planted.json")
    options = parser.parse_args()

    world = {name: getattr(options, name) for name in ("users", "colours", "cloths", "noise")}
    bench = Bench(options.dir, options.out, world, options.rl_steps)
    for seed in options.seeds:
        if "trunk" in options.only:
            bench.trunk(seed)
        if "plain" in options.only:
            bench.plain(seed)
        if "turned" in options.only:
            bench.turned(seed, options.turned)
    bench.show(options.seeds)


if __name__ == "__main__":
    main()
