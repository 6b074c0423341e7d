"""Other ways to fit the fusion of finished runs: everything else equal, over the seeds, paired over users.

    python benchmarks/fusion_attempts.py RUN [RUN ...] [--attempts="as it is,slow fusion"]
                                         [--grid=benchmarks/fusion_attempts.yaml] [--output=benchmarks/results/fusion_attempts.json]

The runs are RPORec on one data set with different seeds. An attempt is a named set of settings in the grid. For each attempt and
run the fusion is fitted from zero on the run's own trunk, to texts of the run's own backbone, its strength is chosen on
validation, and the test split is ranked. The attempt's key `texts` puts something else in the place of the texts: `true facts` (the
true evidence and preference, the model's intent and answer), `history` (no model: what the prompt shows, its newest item as the
answer), `quoted` (what the prompt shows before the model's own chain of thought), `newest` (the model's chain of thought, the newest item
in place of its answer), `history and answer` (what the prompt shows, the model's answer), `history alone` or `newest alone` (nothing in the
other's place), or `history where well-formed` (`history`, and nothing where the model's completion is malformed). Prints the metric averaged over the runs user by user, its difference to the same
weights without reasoning, and the strength that each run chose. New texts are kept in the runs' stores.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import RESULTS_DIR, interval, names, new_parser, read_grid, write_json

if TYPE_CHECKING:
    from rporec_recbole import LoadedRun
    from rporec_recbole.cot.store import Decoding
    from rporec_recbole.text.completions import Completion
    from rporec_recbole.text.prompts import PromptTemplate

TIME = "hours"
RESULTS = {
    "benchmarks/results/fusion_attempts.json": (
        "python benchmarks/fusion_attempts.py RUN RUN RUN; of ml-100k, both stages, three seeds"
    ),
}
METRIC = "ndcg@10"


class TrueFacts:
    """The same completions with the true evidence and preference in place of what the model wrote; its intent and answer stay."""

    def __init__(self, reasoner: Any, template: PromptTemplate) -> None:
        self.reasoner, self.template = reasoner, template

    def reason(self, histories: Any, ratings: Any, decoding: Any, desc: str = "Reasoning") -> list[Completion]:
        """Completions of the form that `compose_completion` writes; of an intent in another form nothing stays."""
        from rporec_recbole.cot.compose import facts_of, sections_of

        written = self.reasoner.reason(histories, ratings, decoding, desc)
        rated = ratings if ratings is not None else [None] * len(histories)
        found = []
        for one, history, rating in zip(written, histories, rated, strict=True):
            facts = facts_of(self.template.catalogue, self.template.shown(history, rating))
            intent = sections_of(one.cot).get("intent", "")
            found.append(dataclasses.replace(one, cot=f"{facts} intent: {intent}."))
        return found


class Mixed:
    """The model's completions with parts of `BareHistory`'s; malformed ones stay as they are.

    Args:
        written: the run's `Reasoner`.
        parts: gets both completions and gives what replaces fields of the model's.
    """

    def __init__(self, written: Any, parts: Callable[[Completion, Completion], dict[str, str]]) -> None:
        from rporec_recbole.cot.substitutes import BareHistory

        self.written, self.bare, self.parts = written, BareHistory(written.template), parts

    def reason(self, histories: Any, ratings: Any, decoding: Decoding, desc: str = "Reasoning") -> list[Completion]:
        """See `Reasoner.reason`."""
        own, bare = (one.reason(histories, ratings, decoding, desc) for one in (self.written, self.bare))
        pairs = zip(own, bare, strict=True)
        return [dataclasses.replace(one, **self.parts(one, other)) if one.well_formed else one for one, other in pairs]


def values(run: LoadedRun, split: str) -> np.ndarray:
    """The metric of every user, in the order of their ids."""
    from rporec_recbole.evaluation.ranks import metric_values

    return metric_values(run.evaluate(split)[1].sort_values("user_id")["rank"].to_numpy(), METRIC)


def fit(run: LoadedRun, attempt: dict[str, Any]) -> float:
    """Puts a new fusion, by the run's settings with those of an attempt, onto the run's trunk; the strength that it ends with.

    Raises:
        ConfigError: a setting is out of range.
    """
    from rporec_recbole.data import ladder
    from rporec_recbole.host.bridge import build_model
    from rporec_recbole.training.stage1.fusion import train_fusion
    from rporec_recbole.training.stage1.rows import fusion_texts, reasoned_rows
    from rporec_recbole.training.stage1.strength import try_strengths

    model, dataset, config = run.model, run.loaders["train"].dataset, run.config
    own = {key: config[key] for key in attempt}
    try:
        for key, value in attempt.items():
            config[key] = value
        fresh = build_model(config, run.loaders["train"])
    finally:
        for key, value in own.items():
            config[key] = value
    trunk = {name: one for name, one in model.state_dict().items() if not name.startswith("head.fusion.")}
    fresh.load_state_dict({**fresh.state_dict(), **trunk})
    model.head, model.settings, model.reasoning_on = fresh.head, fresh.settings, True
    settings = model.settings.fusion
    ends = dataset.positions(ladder.FUSION, settings.fusion_positions)
    train, _ = fusion_texts(model, dataset, ends, "texts")
    rows = run.loaders["valid"].dataset.inter_feat
    valid, _ = reasoned_rows(model, rows, model.evaluation_decoding, "validation texts")
    teach = lambda some: train_fusion(model.head, some, valid, settings, seed=model.seed, desc="fusion")  # noqa: E731
    tried = try_strengths(
        model.head,
        train,
        dataset.timeline[dataset.uid_field].numpy()[ends],
        teach,
        settings.fusion_strengths,
        metric=METRIC,
        hide_seen=bool(config["hide_seen"]),
        seed=model.seed,
    )
    teach(train)
    tried.best.set(model.head)
    return float(model.head.strength)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--attempts", type=names, help="only these of the grid")
    parser.add_argument("--grid", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--output", type=Path, default=RESULTS_DIR / "fusion_attempts.json")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    from rporec_recbole import load_run
    from rporec_recbole.cot.substitutes import BareHistory
    from rporec_recbole.evaluation.significance import paired_bootstrap
    from rporec_recbole.settings.known import check_overrides

    _, attempts = read_grid(options.grid, options.attempts)
    without: dict[str, list[np.ndarray]] = {"valid": [], "test": []}
    found: dict[str, dict[str, list[Any]]] = {name: {"valid": [], "test": [], "strength": []} for name in attempts}
    for folder in options.runs:
        run = load_run(folder)
        run.model.reasoning_on = False
        for split in without:
            without[split].append(values(run, split))
        written = run.model.reasoner
        texts = {
            None: written,
            "true facts": TrueFacts(written, written.template),
            "history": BareHistory(written.template),
            "quoted": Mixed(written, lambda own, bare: {"cot": f"{bare.cot}\n{own.cot}"}),
            "history and answer": Mixed(written, lambda own, bare: {"cot": bare.cot}),
            "history alone": Mixed(written, lambda own, bare: {"cot": bare.cot, "answer": ""}),
            "newest alone": Mixed(written, lambda own, bare: {"cot": "", "answer": bare.answer}),
            "history where well-formed": Mixed(written, lambda own, bare: {"cot": bare.cot, "answer": bare.answer}),
            "newest": Mixed(written, lambda own, bare: {"answer": bare.answer}),
        }
        for name, own in attempts.items():
            attempt = dict(own)
            run.model.reasoner = texts[attempt.pop("texts", None)]
            check_overrides("RPORec", str(run.config["dataset"]), attempt)
            found[name]["strength"].append(fit(run, attempt))
            for split in without:
                found[name][split].append(values(run, split))
            print(f"{folder}, {name}: strength {found[name]['strength'][-1]:g}", flush=True)
        written.store.close()
    mean = {split: np.mean(of_runs, axis=0) for split, of_runs in without.items()}
    print(f"\n{'attempt':<22}{'valid':>8}{'test':>8}   RPORec minus no CoT, test NDCG@10   strength of each run")
    print(f"{'no CoT':<22}{mean['valid'].mean():>8.4f}{mean['test'].mean():>8.4f}")
    table: dict[str, Any] = {"no CoT": {split: float(own.mean()) for split, own in mean.items()}}
    for name, of in found.items():
        ours = {split: np.mean(of[split], axis=0) for split in mean}
        gap = paired_bootstrap(ours["test"], mean["test"])
        table[name] = {split: float(own.mean()) for split, own in ours.items()}
        table[name] |= {"minus no CoT": gap._asdict(), "strength": of["strength"]}
        strengths = ", ".join(f"{one:g}" for one in of["strength"])
        print(
            f"{name:<22}{ours['valid'].mean():>8.4f}{ours['test'].mean():>8.4f}   {interval(*gap)}{'':>12}{strengths}"
        )
    write_json(options.output, table)
    print(f"\nWritten to {options.output}")


if __name__ == "__main__":
    main()
