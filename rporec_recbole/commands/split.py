"""`rporec split`: the split and the candidates of a data set, for a system outside."""

from __future__ import annotations

import click

from rporec_recbole.commands.arguments import Command, Completed, settings_of
from rporec_recbole.settings.datasets import check_dataset, dataset_names
from rporec_recbole.settings.known import check_model, check_names, model_names
from rporec_recbole.settings.properties import read_yaml

HELP = """\
Writes the split that models are measured on here, and the items that are ranked, with the ids of the data files, for a system that
is none of RPORec's or RecBole's:

\b
train.parquet, valid.parquet, test.parquet   user_id, item_id, timestamp, rating (where there are any), by user, then in time
candidates.parquet                           item_id: what is ranked
split.json                                   data set, settings of the split, SHA-256 of the files, whether seen items are hidden

Train the other system on train.parquet (and tune it on valid.parquet); the history of a user of test.parquet is what train and valid have.
Write its lists as a table of user_id, item_id and score or rank; `rporec compare RUN --lists=NAME:FILE.parquet` ranks them among runs.

Settings such as --eval_args, --hide_seen or --user_inter_num_interval are given as for a run; --config_files=saved/RUN/config.yaml takes
those of a run.
"""


@click.command(
    "split",
    cls=Command,
    settings=True,
    help=HELP,
    short_help="Write the split and the candidates, for a system outside.",
    usages=("rporec split DATASET [--output=SPLIT] [--key=value ...]",),
    examples=(("rporec split ml-100k --output=ml-100k-split --hide_seen=True", "seen items are hidden"),),
)
@click.argument("dataset", metavar="DATASET", type=Completed("DATASET", dataset_names))
@click.option("--output", metavar="FOLDER", help="New, or with an older split in it; default DATASET-split.")
@click.option(
    "--model",
    type=Completed("MODEL", model_names),
    metavar="MODEL",
    help="Whose split it is, where users of fewer than 4 interactions are kept, or several targets a user; default RPORec.",
)
@click.option("--data_path", metavar="DIR", help="Another parent folder of data sets.")
@click.option("--config_files", metavar="FILES", help="YAML files with settings, separated by spaces; later ones win.")
@click.pass_context
def command(
    ctx: click.Context,
    dataset: str,
    output: str | None,
    model: str | None,
    data_path: str | None,
    config_files: str | None,
) -> None:
    """Writes the split and says what is in it."""
    from rporec_recbole.commands.run import TEXTS, named

    values = settings_of(ctx.args, TEXTS)
    if data_path is not None:
        values["data_path"] = data_path
    written = {key: value for file in (config_files or "").split() for key, value in read_yaml(file).items()}
    named_model = {"model": model or "RPORec"} if model or "model" not in written else {}
    model, dataset, _ = named({**named_model, "dataset": dataset, "config_files": config_files or ""})
    values = {key: value for key, value in {**written, **values}.items() if key not in ("model", "dataset", "run_dir")}
    check_model(model)
    check_names(model, dataset, values)
    check_dataset(dataset, values)

    from rporec_recbole.outputs.split import write_split

    output = output or f"{dataset}-split"
    facts = write_split(dataset, output, model, overrides=values)
    rows = ", ".join(f"{count:,} rows of {part}" for part, count in facts["rows"].items())
    print(
        f"{rows} and {facts['candidates']:,} candidates of {facts['users']:,} users are in {output}; seen items are "
        f"{'hidden' if facts['hide_seen'] else 'ranked too'}"
    )
