"""Finished runs side by side: paired differences over users on the test split. The first run is compared with the others.

    python benchmarks/side_by_side.py saved/RUN saved/OTHER_RUN [...] [--out=saved/side_by_side.json]

All runs must have ranked the same test rows under the same treatment of seen items. Intervals are 95 % bootstrap intervals
over users; p is of a paired randomization test. They say nothing of other seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rporec_recbole.evaluation.ranks import metric_values, read_ranks
from rporec_recbole.evaluation.significance import paired_bootstrap, paired_randomization, paired_ratio

METRICS = ("ndcg@10", "hit@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("saved/side_by_side.json"))
    options = parser.parse_args()
    facts = [json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in options.runs]
    if len({(one["dataset"], one["hide_seen"], one["candidates"]) for one in facts}) > 1:
        raise SystemExit("These runs cannot be compared: they differ in data set, candidates or hide_seen.")
    ranks = [read_ranks(folder, "test") for folder in options.runs]
    if not all(table.index.equals(ranks[0].index) for table in ranks):
        raise SystemExit("These runs cannot be compared: they ranked other test rows.")
    hidden = "seen items hidden" if facts[0]["hide_seen"] else "nothing hidden"
    print(f"{facts[0]['dataset']}, test, full ranking, {hidden}, {len(ranks[0])} users\n")
    print(
        "| metric | model | seed | value | first minus it [95 %] | first over it [95 %] | p |\n|---|---|---|---|---|---|---|"
    )
    report: dict[str, Any] = {}
    for metric in METRICS:
        values = [metric_values(table.to_numpy(), metric) for table in ranks]
        for folder, fact, own in zip(options.runs, facts, values, strict=True):
            name = fact["model"] if len(fact["stages"]) != 3 or "1a" not in fact["stages"] else "its trunk alone"
            row: dict[str, Any] = {"model": name, "seed": fact["seed"], "value": own.mean()}
            cells = "| | |"
            if own is not values[0]:
                gap, ratio = paired_bootstrap(values[0], own), paired_ratio(values[0], own)
                p = paired_randomization(values[0], own)
                row |= {"difference": gap._asdict(), "ratio": ratio._asdict(), "p": p}
                cells = (
                    f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] | "
                    f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] | {p:.4f} |"
                )
            print(f"| {metric} | {name} | {fact['seed']} | {own.mean():.4f} | {cells}")
            report.setdefault(metric, {})[str(folder)] = row
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
