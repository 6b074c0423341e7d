"""The command line: `rporec`, and `python run_recbole.py`."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from rporec_recbole.errors import RPORecError
from rporec_recbole.version import __version__

COMMANDS = ("compare", "controls", "cots", "explain", "recommend", "export", "index", "serve", "doctor")
"""Sub-commands, each a file of `commands/`; without one of them, a run."""

HELP = """\
usage: rporec --model=MODEL --dataset=DATASET [--preset=NAME] [--config_files="a.yaml b.yaml"] [--run_dir=PATH] [--key=value ...]
       rporec --model=A,B,... --dataset=DATASET [--seeds=3] [--reference=NAME] [--key=value ...]
       rporec --compare=FILE [--dataset=DATASET] [--seeds=3] [--reference=NAME] [--key=value ...]
       rporec compare RUN RUN [...] [--reference=NAME]
       rporec --model=MODEL --dataset=DATASET --sweep=FILE [--trials=N] [--storage=URL] [--run_dir=PATH] [--key=value ...]
       rporec cots stats|show|export RUN [--count=N] [--seed=N] [--to=FILE.jsonl]
       rporec cots write RUN [--split=valid|test]
       rporec controls RUN [--only=NAME,NAME]
       rporec explain RUN --user=ID[,ID...]|--sample=20 [--seed=0] [--split=test] [--format=html|json] [--output=FILE]
       rporec recommend RUN [--users=ID,...|FILE] [--histories=FILE] [--split=test] [--top_k=100] [--output=recs.parquet]
       rporec export RUN [--what=items,users,reasoning] [--output=vectors] [--dtype=float32|float16] [--split=test]
       rporec index RUN [--kind=exact|hnsw|ivfpq] [--output=FOLDER] [--key=value ...]
       rporec serve RUN [--host=127.0.0.1] [--port=8000] [--token=TOKEN] [--watch=True|FOLDER] [--index=FOLDER]
       rporec doctor
       rporec --version

Trains and evaluates one model on one data set and writes a run folder; or several, and compares them.

  --model         RPORec, or any RecBole model: SASRec, GRU4Rec, BERT4Rec, BPR, Pop, ...
  --dataset       ml-100k needs no files; others are read from dataset/NAME/NAME.inter (.item, .user)
  --data_path     another parent folder of data sets
  --preset        a bundle of settings; `paper`: everything as RPORec's paper has it (properties/presets/)
  --config_files  YAML files with settings, separated by spaces; later ones win. The config.yaml of a
                  run folder repeats that run (model and data set included)
  --run_dir       where to write; default saved/MODEL-DATASET-TIME
  --controls      afterwards: is it the reasoning that helps? Ranks the test split without it, with another
                  user's, with the bare history in its place, ...; one table and one plot with intervals
  --sweep         search the settings: FILE is YAML (properties/sweep/ has examples) or RecBole's hyper.test. Any number of
                  processes started with the very same command share the trials; started again, it goes on. Its own
                  settings stand in FILE or here: --trials=20 --sampler=tpe|random|grid --pruner=median|none
                  --metric=NDCG@10 --storage=postgresql://... (default: an SQLite file) --study=NAME
  --key=value     any setting of RecBole or RPORec; wins over files. Lists as --topk="[5,10]"

examples
  rporec --model=RPORec --dataset=ml-100k                          both stages on a laptop, 5 to 12 minutes
  rporec --model=RPORec --dataset=ml-100k --stages="[1a]"          its trunk alone
  rporec --model=RPORec --dataset=ml-100k --backbone=Qwen/Qwen3-0.6B
  rporec --model=SASRec --dataset=ml-100k --epochs=30              a baseline, same split and metrics
  rporec --model=SASRec --dataset=ml-100k --sweep=properties/sweep/SASRec.yaml

  rporec --model=RPORec,SASRec,GRU4Rec,Pop --dataset=ml-100k --seeds=2   side by side, with paired tests

RPORec's settings and what they mean: properties/model/RPORec.yaml
compare: finished runs side by side; also says how several models are run and compared with one command or file
cots:   what the backbone wrote in a run: figures by writer, N random texts of each, or all texts as JSON lines;
        write: the texts that the run's evaluation lacks, shared by all processes that do this (torchrun, one a GPU)
controls: the same as --controls, for a finished run
explain: a page on what single users chose, what the backbone wrote about it, and the ranking with and without that text
recommend: the best items for all users of a run, for some, or for histories of new ones, as Parquet, CSV or JSON lines
export: the vectors of items, users and reasoning as Parquet, for another ranker
index:  an index of the items, which finds the best of many without scoring all
serve:  a run as a service over HTTP, which answers from stored reasoning or from the trunk, and has the rest written later
doctor: versions, and the repairs that let RecBole run on them

Where data, base model or sentence encoder of a run moved, its commands take --data_path, --backbone and --text_encoder.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, or 2 with one message for what the user can repair."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        asks_for_help = not {"-h", "--help"}.isdisjoint(given)
        if given[0] in COMMANDS:
            command = importlib.import_module(f"rporec_recbole.commands.{given[0]}")
            if asks_for_help:
                print(command.HELP, end="")
            else:
                command.main(given[1:])
        elif asks_for_help:
            print(HELP, end="")
        elif given == ["--version"]:
            print(f"rporec_recbole {__version__}")
        else:
            train = importlib.import_module("rporec_recbole.commands.train")
            train.main(given, COMMANDS)
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
