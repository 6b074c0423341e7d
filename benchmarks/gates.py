"""Which share of texts each gate of the reward lets through: composed texts, those of a run's backbone, and fixed ones.

    python benchmarks/gates.py RUN [--positions=1000] [--seed=0]

RUN is a finished run whose backbone writes. The positions are drawn from those that stage 2 learns from. `composed` are the texts
that `tiny` learns from, `greedy` and the temperatures are written by the run's backbone; of all of these, only the well-formed
ones count. The fixed texts stand before the composed answer. Gates are those of the run, and `all` is the share that passes
each of them. Nothing is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from harness import new_parser

TIME = "minutes"
RESULTS: dict[str, str] = {}
FIXED = (
    "drama comedy action",
    "they like action and crime films",
    "let us think about this from where we were with them",
    "Romance 3, a guess",
    "Drama 3, Comedy 3, Action 2, Romance 2, Thriller 2",
)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("run")
    parser.add_argument("--positions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    from rporec_recbole import load_run
    from rporec_recbole.cot.compose import compose_completion
    from rporec_recbole.cot.quality import QualityLimits
    from rporec_recbole.data import ladder
    from rporec_recbole.rewards.gates import GATES
    from rporec_recbole.rewards.rechead_reward import trial_record
    from rporec_recbole.text.completions import parse_completion, render_completion
    from rporec_recbole.training.stage1.rows import history_rows

    loaded = load_run(options.run)
    model, dataset = loaded.model, loaded.loaders["train"].dataset
    settings, catalogue, template = model.settings, model.catalogue, model.reasoner.template

    ends = dataset.positions(ladder.RL)
    ends = np.random.default_rng(options.seed).permutation(ends)[: options.positions]
    rows = dataset.histories(np.sort(ends))
    histories = history_rows(model, rows)
    shown = [template.shown(*row) for row in histories]
    prompts = [template.prompt(*row) for row in histories]
    targets = rows[model.ITEM_ID].tolist()
    composed = [compose_completion(catalogue, items, target) for items, target in zip(shown, targets, strict=True)]
    limits = QualityLimits(**settings.backbone.quality_limits)
    trial = trial_record(catalogue, lambda _: None, settings.rl.reward_k, limits)

    def report(name: str, texts: Sequence[str]) -> None:
        parsed = [parse_completion(text) for text in texts]
        known = [row for row, one in enumerate(parsed) if one.well_formed]
        record = dataclasses.replace(
            trial,
            prompts=[prompts[row] for row in known],
            completions=[parsed[row] for row in known],
            histories=[[item for item in histories[row][0] if item] for row in known],
            shown=[shown[row] for row in known],
        )
        opened = {gate: GATES[gate](record).numpy() for gate in settings.rl.reward_gates if gate != "format"}
        shares = {gate: passed.mean() for gate, passed in opened.items()}
        shares["all"] = np.prod(list(opened.values()), axis=0).mean()
        print(
            f"{name:60}", len(known), *(f"{gate} {share:.1%}" for gate, share in shares.items()), sep="  ", flush=True
        )

    report("composed", composed)
    for temperature in (0.0, settings.backbone.cot_temperature, settings.rl.rl_temperature):
        name = f"temperature {temperature:g}" if temperature else "greedy"
        report(name, model.reasoner.generator.generate(prompts, model.decoding(temperature, options.seed)))
    for cot in FIXED:
        report(cot, [render_completion(cot, catalogue.lines[target]) for target in targets])


if __name__ == "__main__":
    main()
