"""`rporec run`, or `rporec --model=... --dataset=...`: one run; a comparison of several models; with `--sweep=FILE` a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rporec_recbole.commands.arguments import Command, Completed, Literal, Truth, given_options, settings_of
from rporec_recbole.errors import ConfigError
from rporec_recbole.settings.datasets import check_dataset, dataset_names
from rporec_recbole.settings.known import check_model, check_names, model_names
from rporec_recbole.settings.named_code import names_code
from rporec_recbole.settings.properties import preset_file, read_yaml

_SEARCH = ("trials", "sampler", "pruner", "metric", "storage", "study")
TEXTS = ("gpu_id", "text_encoder")
"""Settings that are no options below and whose values are never read as anything but text."""

HELP = """\
Trains and evaluates one model on one data set and writes a run folder; or several, and compares them.

`rporec run` may be left out. RPORec's settings and what they mean: properties/model/RPORec.yaml. Any setting of RecBole or RPORec is
given as --key=value, lists as --topk="[5,10]"; it wins over files.

A search (--sweep) is shared by any number of processes started with the very same command; started again, it goes on.
"""


@click.command(
    "run",
    cls=Command,
    settings=True,
    help=HELP,
    short_help="Train and evaluate a model, or several side by side.",
    usages=(
        'rporec --model=MODEL --dataset=DATASET [--preset=NAME] [--config_files="a.yaml b.yaml"] [--run_dir=PATH] [--key=value ...]',
        "rporec --model=A,B,... --dataset=DATASET [--seeds=3] [--reference=NAME] [--key=value ...]",
        "rporec --compare=FILE [--dataset=DATASET] [--seeds=3] [--reference=NAME] [--key=value ...]",
        "rporec --model=MODEL --dataset=DATASET --sweep=FILE [--trials=N] [--storage=URL] [--run_dir=PATH] [--key=value ...]",
    ),
    examples=(
        ("rporec --model=RPORec --dataset=ml-100k", "both stages on a laptop, 5 to 12 minutes"),
        ('rporec --model=RPORec --dataset=ml-100k --stages="[1a]"', "its trunk alone"),
        ("rporec --model=RPORec --dataset=ml-100k --backbone=Qwen/Qwen3-0.6B", "a real language model"),
        ("rporec --model=SASRec --dataset=ml-100k --epochs=30", "a baseline, same split and metrics"),
        ("rporec -m SASRec -d ml-100k --epochs 30", "the same, as RecBole's script reads it"),
        ("rporec --model=SASRec --dataset=ml-100k --sweep=properties/sweep/SASRec.yaml", "its settings searched"),
        ("rporec --model=SASRec --dataset=ml-100k --recommend=recs.csv", "and what to show every user next"),
        ("rporec --model=RPORec,SASRec,GRU4Rec,Pop --dataset=ml-100k --seeds=2", "side by side, with paired tests"),
    ),
)
@click.option(
    "--model",
    "-m",
    metavar="MODEL",
    type=Completed("MODEL", model_names),
    help="RPORec, a rival (HSTU, R2ec, TextSASRec, TIGER), or any RecBole model (`rporec models`), or a class of yours as package.module:Class; several, separated by commas, are compared.",
)
@click.option(
    "--dataset",
    "-d",
    metavar="DATASET",
    type=Completed("DATASET", dataset_names),
    help="ml-100k needs no files; others are read from dataset/NAME/NAME.inter (.item, .user).",
)
@click.option("--data_path", metavar="DIR", help="Another parent folder of data sets.")
@click.option("--preset", metavar="NAME", help="A bundle of settings; `paper`: everything as RPORec's paper has it.")
@click.option(
    "--config_files",
    metavar="FILES",
    help="YAML files with settings, separated by spaces; later ones win. The config.yaml of a run folder repeats that run (model and data set included).",
)
@click.option("--run_dir", metavar="PATH", help="Where to write; default saved/MODEL-DATASET-TIME.")
@click.option(
    "--recommend",
    metavar="FILE",
    help="Afterwards: the best items for every user, from all that they have chosen, as `rporec recommend` writes them.",
)
@click.option("--backbone", metavar="PLACE", help="The language model: tiny, an id, a folder or a .gguf file.")
@click.option(
    "--controls",
    type=Truth(),
    help="Afterwards: is it the reasoning that helps? Ranks the test split without it, with another user's, with the bare history in its place, ...; one table and one plot with intervals.",
)
@click.option(
    "--seeds", type=Literal(), metavar="N", help="Of several models: so many seeds, counted up from --seed, or a list."
)
@click.option("--compare", metavar="FILE", help="A YAML file that names the models, see `rporec compare --help`.")
@click.option(
    "--reference",
    metavar="NAME",
    help="Of several models: the one that the others are measured from; default the first.",
)
@click.option(
    "--sweep",
    metavar="FILE",
    help="Search the settings: YAML (properties/sweep/ has examples) or RecBole's hyper.test.",
)
@click.option("--trials", type=Literal(), metavar="N", help="Of a search: how many; in FILE or here, as the next ones.")
@click.option("--sampler", metavar="NAME", help="tpe, random or grid.")
@click.option("--pruner", metavar="NAME", help="median or none.")
@click.option("--metric", metavar="NAME", help="What is searched for, such as NDCG@10.")
@click.option("--storage", metavar="URL", help="postgresql://...; default an SQLite file.")
@click.option("--study", metavar="NAME", help="The search's name in that storage.")
@click.pass_context
def command(ctx: click.Context, **_: Any) -> None:
    """Trains and evaluates a model, or searches its settings, and prints the summary."""
    values = {**given_options(ctx), **settings_of(ctx.args, TEXTS)}
    output = values.pop("recommend", None)
    if output is not None and (several(values) or "sweep" in values):
        raise ConfigError("`--recommend` is of one run. Recommend afterwards: rporec recommend RUN --output=FILE")
    checked(values)

    from rporec_recbole.commands import compare, controls, cots, recommend, sweep
    from rporec_recbole.explain.run_page import write_report
    from rporec_recbole.outputs.table_file import check_output
    from rporec_recbole.runs.run import help_run, run
    from rporec_recbole.training.state.processes import helping, launched

    if launched() and (several(values) or "sweep" in values):
        raise ConfigError(
            "A comparison or a search cannot be started by a launcher of several processes; start one run."
        )
    if several(values):
        compare.train_and_compare(values)
        return
    model, dataset, files = named(values)
    if "sweep" in values:
        sweep.search_settings(model, dataset, files, values)
        return
    if launched():
        values.setdefault("gpu_id", cots.gpu_of_this_process() or "0")
    if helping():
        help_run(model, dataset, files, values)
        return
    if output is not None:
        check_output(Path(output), "--recommend")
    result = run(model, dataset, files, values, tell=write_report)
    print(summary(result.metrics, str(result.run_dir)))
    if result.controls:
        controls.show(result.controls, str(result.run_dir))
    if output is not None:
        own = model if ":" in model else None  # a class of somebody's own
        recommend.write_and_say(str(result.run_dir), output, model=own)


def several(values: dict[str, Any]) -> bool:
    """Whether the options of a run ask for a comparison."""
    return "," in str(values.get("model", "")) or any(
        key in values for key in ("seeds", "compare", "reference", "compare_metrics")
    )


def checked(values: dict[str, Any]) -> None:
    """Refuses what needs no torch to be seen wrong: names of models, data sets, settings, presets and files.

    Raises:
        ConfigError: a name is unknown, with the likely one; an option has no meaning here.
        DatasetError: there is no such data set.
    """
    if several(values):
        for name in str(values.get("model", "")).split(","):
            if name.strip():
                check_model(name.strip())
        return
    given = dict(values)
    model, dataset, files = named(given)
    alone = [key for key in _SEARCH if key in given]
    if alone and "sweep" not in given:
        raise ConfigError(f"`--{alone[0]}` is an option of a search. Name what to search with --sweep=FILE.")
    check_model(model)
    written: dict[str, Any] = {}
    for file in files:
        written |= read_yaml(file)  # later ones win
    given = {**written, **given}
    if "sweep" not in values:
        names = [key for key in given if key not in ("model", "dataset", "run_dir", "controls")]
        check_names(model, dataset, names, [str(param.name) for param in command.params])
    check_dataset(dataset, given)


def named(values: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Takes model, data set and config files, a preset's first, out of the options of a run.

    Raises:
        ConfigError: model or data set is named neither there nor in a file.
    """
    files = str(values.pop("config_files", "")).split()
    if "preset" in values:
        files.insert(0, str(preset_file(values.pop("preset"))))
    found: dict[str, Any] = {}
    for file in files:
        found.update({key: value for key, value in read_yaml(file).items() if key in ("model", "dataset")})
    if "model" not in values and names_code(found.get("model")):
        raise ConfigError(
            f"`{found['model']}`, the model that a config file names, is somebody's own, and to make it that code has to be run. If you trust it, "
            f"name it too: --model={found['model']}"
        )
    found.update({key: values.pop(key) for key in ("model", "dataset") if key in values})
    for key in ("model", "dataset"):
        if not found.get(key):
            raise ConfigError(f"--{key}=NAME is missing, for example --model=RPORec --dataset=ml-100k.")
    return str(found["model"]), str(found["dataset"]), files


def summary(metrics: dict[str, Any], run_dir: str) -> str:
    """The last words of a run: results, seconds by stage, where everything is."""
    from rporec_recbole.data.cuts import described_cuts

    shown = [name for name in metrics["test"] if name.split("@")[0] in ("ndcg", "hit", "mrr")] or list(metrics["test"])
    mode = metrics.get("mode", "full")
    against = {"full": f"{metrics['candidates']:,} candidates", "labeled": "labels of single rows"}.get(
        mode, f"samples of {metrics['candidates']:,} items (`{mode}`)"
    )
    width = max(9, *(len(name) + 2 for name in shown)) if shown else 9
    lines = [
        "",
        f"{metrics['model']} on {metrics['dataset']}: {metrics['users']:,} users, {against}, seen items {'hidden' if metrics['hide_seen'] else 'ranked too'}, seed {metrics['seed']}",
        *([described_cuts(metrics["time_split"])] if "time_split" in metrics else []),
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
    if (Path(run_dir) / "report.html").is_file():
        lines.append(f"To look at it in a browser: {Path(run_dir) / 'report.html'}")
    return "\n".join(lines)


def _shares(entry: dict[str, Any]) -> str:
    """Where the time of a stage went, if it was noted."""
    parts = entry.get("seconds_of") or {}
    total = sum(parts.values())
    return f" ({', '.join(f'{name} {value / total:.0%}' for name, value in parts.items())})" if total else ""
