"""The oracle curve: how much of what a text knows reaches the ranking.

    python benchmarks/conduit.py RUN [RUN ...] [--draws=1] [--shares=0,0.05,0.1,0.25,0.5,1] [--marked] [--out=FILE] [--plot=FILE]

RUN is a finished RPORec run with reasoning, any head. For a share q of the rows, in fusion, validation and test alike and drawn at
random, the answer is replaced by the line of the true next item (title) or by its attributes alone; the others keep what the
backbone wrote, or name a popular item, or an item of the history. A replaced answer looks like a written one, log-probability and further
guesses as they were; with --marked it stands alone, and its form gives it away. A new fusion is fitted on the run's trunk and its strength chosen
on validation, as a run does; then the test split is ranked. What could be gained is known: q times what the trunk's NDCG@10 lacks to 1.
Prints the share of it that was gained, for each run and draw, their mean, and writes numbers and plot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS_DIR, names, new_parser, read_json, table_head, table_row, write_json

TIME = "10 minutes a run and draw"
RESULTS = {
    "benchmarks/results/conduit.json": "python benchmarks/conduit.py RUN RUN RUN --shares=0.05,0.1",
    "benchmarks/results/conduit-whole.json": "python benchmarks/conduit.py RUN",
    "docs/figures/conduit.png": "python benchmarks/conduit.py RUN RUN RUN --marked --plot=docs/figures/conduit.png",
    "benchmarks/results/conduit-marked.json": "python benchmarks/conduit.py RUN RUN RUN --marked",
}
METRIC = "ndcg@10"
ALONE = (("title", "popular"), ("title", "history"))  # at a share of one tenth
_TENTH = 0.1


def cells(shares: list[float]) -> list[tuple[str, str, float]]:
    """(true, wrong, share) of every point of the curve."""
    curve = [(true, "writer", share) for true in ("title", "attributes") for share in shares]
    return [*curve, *((true, wrong, _TENTH) for true, wrong in ALONE)]


def gained(run: Any, true: str, wrong: str, share: float, draw: int, marked: bool) -> dict[str, float]:
    """NDCG@10 of the trunk, of the head that was told the truth in a share of the rows, and what was possible."""
    from rporec_recbole.evaluation.ranks import metric_values
    from rporec_recbole.runs.oracle import oracle_of
    from rporec_recbole.runs.refit import ranks_with, refitted

    mean = lambda table: float(metric_values(table["rank"].to_numpy(), METRIC).mean())  # noqa: E731
    trunk = mean(ranks_with(run, None))
    told = mean(refitted(run, lambda reasoner: oracle_of(run, share, true, wrong, draw, reasoner, marked=marked)))
    return {"trunk": trunk, "told": told, "possible": share * (1 - trunk)}


def plot(found: dict[str, dict[str, float]], file: Path) -> None:
    """Share of the possible gain over q, a line for each kind of truth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for true, marker in (("title", "o"), ("attributes", "s")):
        points: dict[float, list[float]] = {}
        for name, one in found.items():
            _, _, kind, wrong, share = name.split("; ")
            if kind == true and wrong == "writer" and one["possible"]:
                points.setdefault(float(share), []).append((one["told"] - one["trunk"]) / one["possible"])
        places = sorted(points)
        axes.plot(places, [float(np.mean(points[q])) for q in places], marker=marker, label=f"{true} of the next item")
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(
        xscale="log",
        ylim=(0, 1.08),
        xlabel="share of the users whose text is right",
        ylabel="share of the possible gain",
    )
    axes.set_xticks([0.05, 0.1, 0.25, 0.5, 1], ["5 %", "10 %", "25 %", "50 %", "100 %"])
    axes.set_title("What a text knows, and how much of it reaches the ranking")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--draws", type=int, default=1, help="draws of the rows that are told the truth, of each run")
    parser.add_argument(
        "--shares", type=lambda text: [float(one) for one in names(text)], default="0,0.05,0.1,0.25,0.5,1"
    )
    parser.add_argument("--marked", action="store_true", help="replaced answers have a form of their own")
    parser.add_argument("--out", type=Path, help="default: conduit.json or conduit-marked.json of the results")
    parser.add_argument("--plot", type=Path, help="a picture of the curve")
    options = parser.parse_args()
    options.out = options.out or RESULTS_DIR / ("conduit-marked.json" if options.marked else "conduit.json")

    from rporec_recbole import load_run

    found: dict[str, dict[str, float]] = read_json(options.out, {})
    for path in options.runs:
        run = None
        for draw in range(options.draws):
            for true, wrong, share in cells(options.shares):
                name = f"{Path(path).name}; {draw}; {true}; {wrong}; {share:g}"
                if name not in found:
                    run = run or load_run(path)
                    found[name] = gained(run, true, wrong, share, draw, options.marked)
                    write_json(options.out, found)
        if run is not None:
            run.model.reasoner.store.close()
    print(table_head("true", "wrong", "share told", "possible", "gained", "share of the possible gain", "each"))
    for true, wrong, share in cells(options.shares):
        ending = f"; {true}; {wrong}; {share:g}"
        points = [one for name, one in found.items() if name.endswith(ending)]
        gains = [one["told"] - one["trunk"] for one in points]
        reached = [gain / one["possible"] for gain, one in zip(gains, points, strict=True) if share]
        print(
            table_row(
                true,
                wrong,
                f"{share:g}",
                f"{np.mean([one['possible'] for one in points]):+.4f}",
                f"{np.mean(gains):+.4f}",
                f"{np.mean(reached):.2f}" if share else "",
                " ".join(f"{one:.2f}" for one in reached) if share else " ".join(f"{gain:+.4f}" for gain in gains),
            )
        )
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
