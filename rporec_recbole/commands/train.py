"""`rporec --model=... --dataset=...`: one run; a comparison of several models; with `--sweep=FILE` a search over settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rporec_recbole.commands import compare, controls, cots, sweep
from rporec_recbole.commands.arguments import split_arguments
from rporec_recbole.errors import ConfigError, did_you_mean


def main(arguments: Sequence[str], commands: Sequence[str] = ()) -> None:
    """Trains and evaluates a model, or searches its settings, and prints the summary.

    Args:
        arguments: `--key=value` pairs.
        commands: the sub-commands that a mistaken word may have meant.
    """
    from rporec_recbole.runs.run import help_run, run
    from rporec_recbole.training.state.processes import helping, launched

    words, values = split_arguments(arguments, switches=["controls"])
    if words:
        raise ConfigError(
            f"Cannot read the argument `{words[0]}`.{did_you_mean(words[0], commands)} `rporec --help` shows the forms."
        )
    if launched() and (compare.several(values) or "sweep" in values):
        raise ConfigError(
            "A comparison or a search cannot be started by a launcher of several processes; start one run."
        )
    if compare.several(values):
        compare.train_and_compare(values)
        return
    model, dataset, files = named(values)
    alone = [key for key in ("trials", "sampler", "pruner", "metric", "storage", "study") if key in values]
    if alone and "sweep" not in values:
        raise ConfigError(f"`--{alone[0]}` is an option of a search. Name what to search with --sweep=FILE.")
    if "sweep" in values:
        sweep.main(model, dataset, files, values)
        return
    if launched():
        values.setdefault("gpu_id", cots.gpu_of_this_process() or "0")
    if helping():
        help_run(model, dataset, files, values)
        return
    result = run(model, dataset, files, values)
    print(summary(result.metrics, str(result.run_dir)))
    if result.controls:
        controls.show(result.controls, str(result.run_dir))


def named(values: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Takes model, data set and config files, a preset's first, out of the options of a run.

    Raises:
        ConfigError: model or data set is named neither there nor in a file.
    """
    from rporec_recbole.settings.properties import preset_file, read_yaml

    files = str(values.pop("config_files", "")).split()
    if "preset" in values:
        files.insert(0, str(preset_file(values.pop("preset"))))
    found: dict[str, Any] = {}
    for file in files:
        found.update({key: value for key, value in read_yaml(file).items() if key in ("model", "dataset")})
    found.update({key: values.pop(key) for key in ("model", "dataset") if key in values})
    for key in ("model", "dataset"):
        if not found.get(key):
            raise ConfigError(f"--{key}=NAME is missing, for example --model=RPORec --dataset=ml-100k.")
    return str(found["model"]), str(found["dataset"]), files


def summary(metrics: dict[str, Any], run_dir: str) -> str:
    """The last words of a run: results, seconds by stage, where everything is."""
    shown = [name for name in metrics["test"] if name.split("@")[0] in ("ndcg", "hit", "mrr")] or list(metrics["test"])
    mode = metrics.get("mode", "full")
    against = {"full": f"{metrics['candidates']:,} candidates", "labeled": "labels of single rows"}.get(
        mode, f"samples of {metrics['candidates']:,} items (`{mode}`)"
    )
    width = max(9, *(len(name) + 2 for name in shown)) if shown else 9
    lines = [
        "",
        f"{metrics['model']} on {metrics['dataset']}: {metrics['users']:,} users, {against}, seen items {'hidden' if metrics['hide_seen'] else 'ranked too'}, seed {metrics['seed']}",
        " " * 8 + "".join(f"{name:>{width}}" for name in shown),
    ]
    for split in ("valid", "test"):
        lines.append(
            f"{split:<8}"
            + "".join(
                f"{metrics[split][name]:>{width}.4f}" if name in metrics[split] else " " * width for name in shown
            )
        )
    lines += ["", "seconds"]
    lines += [
        f"{stage:<12}{entry['seconds']:>8.1f}  {entry['name']}{_shares(entry)}"
        for stage, entry in metrics["stages"].items()
    ]
    lines += [
        f"{'total':<12}{sum(entry['seconds'] for entry in metrics['stages'].values()):>8.1f}",
        "",
        f"Everything is in {run_dir}: metrics.json, ranks.parquet, curves.png, config.yaml, log.txt",
    ]
    return "\n".join(lines)


def _shares(entry: dict[str, Any]) -> str:
    """Where the time of a stage went, if it was noted."""
    parts = entry.get("seconds_of") or {}
    total = sum(parts.values())
    return f" ({', '.join(f'{name} {value / total:.0%}' for name, value in parts.items())})" if total else ""
