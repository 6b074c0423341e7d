"""The command line: `rporec`, and `python run_recbole.py`."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from rporec_recbole.errors import ConfigError, RPORecError, did_you_mean

HELP = """\
usage: rporec --model=MODEL --dataset=DATASET [--preset=NAME] [--config_files="a.yaml b.yaml"] [--run_dir=PATH] [--key=value ...]
       rporec cots stats|show|export RUN [--count=N] [--seed=N] [--to=FILE.jsonl]
       rporec cots write RUN [--split=valid|test]
       rporec controls RUN
       rporec doctor

Trains and evaluates one model on one data set and writes a run folder.

  --model         RPORec, or any RecBole model: SASRec, GRU4Rec, BERT4Rec, BPR, Pop, ...
  --dataset       ml-100k needs no files; others are read from dataset/NAME/NAME.inter (.item, .user)
  --data_path     another parent folder of data sets
  --preset        a bundle of settings; `paper`: everything as RPORec's paper has it (properties/presets/)
  --config_files  YAML files with settings, separated by spaces; later ones win. The config.yaml of a
                  run folder repeats that run (model and data set included)
  --run_dir       where to write; default saved/MODEL-DATASET-TIME
  --controls      afterwards: is it the reasoning that helps? Ranks the test split without it, with another
                  user's, with the bare history in its place, ...; one table and one plot with intervals
  --key=value     any setting of RecBole or RPORec; wins over files. Lists as --topk="[5,10]"

examples
  rporec --model=RPORec --dataset=ml-100k                          both stages on a laptop, about 10 minutes
  rporec --model=RPORec --dataset=ml-100k --stages="[1a]"          its trunk alone
  rporec --model=RPORec --dataset=ml-100k --backbone=Qwen/Qwen3-0.6B
  rporec --model=SASRec --dataset=ml-100k --epochs=30              a baseline, same split and metrics

RPORec's settings and what they mean: properties/model/RPORec.yaml
cots:   what the backbone wrote in a run: figures by writer, N random texts of each, or all texts as JSON lines;
        write: the texts that the run's evaluation lacks, shared by all processes that do this (torchrun, one a GPU)
controls: the same as --controls, for a finished run
doctor: versions, and the repairs that let RecBole run on them
"""


_SWITCHES = ("--controls",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, or 2 with one message for what the user can repair."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        if given == ["doctor"]:
            _doctor()
            return 0
        if given[0] == "cots":
            _cots(given[1:])
            return 0
        if given[0] == "controls":
            _controls(given[1:])
            return 0
        _run(parse_arguments(given))
        return 0
    except RPORecError as error:
        print(f"rporec: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `rporec cots show RUN | head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("rporec: interrupted; what was written so far stays in the run folder.", file=sys.stderr)
        return 130


def parse_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """`--key=value` pairs as a dict of Python values.

    Raises:
        ConfigError: an argument has another form, or a key stands twice with different values.
    """
    from rporec_recbole.recbole_bridge import parse_value

    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.removeprefix("--").partition("=")
        if argument in _SWITCHES:
            equals, text = "=", "True"
        if not argument.startswith("--") or not equals or not key:
            hint = (
                f" Write --{key}=VALUE."
                if argument.startswith("--")
                else did_you_mean(argument, ["doctor", "cots", "controls"])
            )
            raise ConfigError(f"Cannot read the argument `{argument}`.{hint} `rporec --help` shows the forms.")
        value = (
            text
            if key in ("model", "dataset", "preset", "config_files", "run_dir", "data_path", "backbone", "text_encoder")
            else parse_value(text)
        )
        if key in values and values[key] != value:
            raise ConfigError(f"`--{key}` is given twice, as {values[key]!r} and {value!r}. Give it once.")
        values[key] = value
    return values


def _run(values: dict[str, Any]) -> None:
    from rporec_recbole.properties import preset_file, read_yaml
    from rporec_recbole.run import run

    files = str(values.pop("config_files", "")).split()
    if "preset" in values:
        files.insert(0, str(preset_file(values.pop("preset"))))
    named: dict[str, Any] = {}
    for file in files:
        named.update({key: value for key, value in read_yaml(file).items() if key in ("model", "dataset")})
    named.update({key: values.pop(key) for key in ("model", "dataset") if key in values})
    for key in ("model", "dataset"):
        if not named.get(key):
            raise ConfigError(f"--{key}=NAME is missing, for example --model=RPORec --dataset=ml-100k.")
    result = run(str(named["model"]), str(named["dataset"]), files, values)
    print(summary(result.metrics, str(result.run_dir)))
    if result.controls:
        _print_controls(result.controls, str(result.run_dir))


def summary(metrics: dict[str, Any], run_dir: str) -> str:
    """The last words of a run: results, seconds by stage, where everything is."""
    shown = [name for name in metrics["test"] if name.split("@")[0] in ("ndcg", "hit", "mrr")] or list(metrics["test"])
    width = max(9, *(len(name) + 2 for name in shown)) if shown else 9
    lines = [
        "",
        f"{metrics['model']} on {metrics['dataset']}: {metrics['users']:,} users, {metrics['candidates']:,} candidates, seen items {'hidden' if metrics['hide_seen'] else 'ranked too'}, seed {metrics['seed']}",
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
    lines += [f"{stage:<12}{entry['seconds']:>8.1f}  {entry['name']}" for stage, entry in metrics["stages"].items()]
    lines += [
        f"{'total':<12}{sum(entry['seconds'] for entry in metrics['stages'].values()):>8.1f}",
        "",
        f"Everything is in {run_dir}: metrics.json, ranks.parquet, curves.png, config.yaml, log.txt",
    ]
    return "\n".join(lines)


def _controls(arguments: Sequence[str]) -> None:
    from rporec_recbole.controls import run_controls

    if len(arguments) != 1 or arguments[0].startswith("--"):
        raise ConfigError("Write `rporec controls RUN` with the folder of a finished RPORec run.")
    _print_controls(run_controls(arguments[0]), arguments[0])


def _print_controls(contrasts: list[Any], run_dir: str) -> None:
    from rporec_recbole.controls import table_of

    print(f"\n{table_of(contrasts)}\n\nThe controls are in {run_dir}: controls.json, controls.parquet, controls.png")


def _cots(arguments: Sequence[str]) -> None:
    from rporec_recbole.cot import report

    names = [argument for argument in arguments if not argument.startswith("--")]
    options: dict[str, Any] = {"count": 3, "seed": 0, "to": "cots.jsonl", "split": None}
    given = parse_arguments([argument for argument in arguments if argument.startswith("--")])
    for key, value in given.items():
        if key not in options:
            raise ConfigError(f"`cots` has no option --{key}.{did_you_mean(key, options)}")
        if key in ("count", "seed") and (type(value) is not int or value < 0):
            raise ConfigError(f"`--{key}={value!r}` must be a whole number of at least 0.")
        if key == "split" and value not in ("valid", "test"):
            raise ConfigError(f"`--split={value!r}` must be valid or test; without it both are written.")
    options |= given
    if len(names) != 2 or names[0] not in ("stats", "show", "export", "write"):
        raise ConfigError(
            "Write `rporec cots stats RUN`, `rporec cots show RUN`, `rporec cots export RUN --to=FILE.jsonl` or `rporec cots "
            "write RUN`."
        )
    if names[0] == "write":
        _write_reasoning(names[1], [options["split"]] if options["split"] else ["valid", "test"])
        return
    with contextlib.closing(report.open_store(names[1])) as store:
        if names[0] == "export":
            print(f"{report.export(store, str(options['to'])):,} texts are in {options['to']}")
        elif names[0] == "stats":
            groups = report.by_writer(store)
            print(f"{report.statistics(groups)}\n\nwhat is wrong with them")
            print(report.faults(groups, report.limits_of(names[1])))
        else:
            print(report.samples(report.by_writer(store), int(options["count"]), int(options["seed"])))


def _write_reasoning(run_dir: str, splits: Sequence[str]) -> None:
    from rporec_recbole.finished_run import load_run

    run = load_run(run_dir, gpu=_gpu_of_this_process())
    for split in splits:
        print(f"{split}: this process wrote {run.write_reasoning(split):,} texts; now none is missing")
    run.model.reasoner.store.close()


def _gpu_of_this_process() -> str | None:
    """The GPU that torchrun or accelerate means this process to take; None without a launcher."""
    rank = os.environ.get("LOCAL_RANK", "")
    if not rank.isdigit():
        return None
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return visible[int(rank) % len(visible)] if visible else rank


def _doctor() -> None:
    from rporec_recbole.compat import REPAIRS
    from rporec_recbole.run_folder import versions

    for name, number in versions().items():
        print(f"{name:<16}{number}")
    print(f"\n{len(REPAIRS)} repairs of RecBole are in force:")
    for repair in REPAIRS:
        print(
            f"\n{repair.name}\n  symptom:     {repair.symptom}\n  cause:       {repair.cause}\n  remove when: {repair.remove_when}"
        )
