"""`rporec fit`: a finished run trained once more on everything, for production."""

from __future__ import annotations

from collections.abc import Mapping

import click

from rporec_recbole.commands.arguments import Command, places_options, run_argument

HELP = """\
For production: trains the model of RUN on all interactions that the data files have now, validation and test items too, with what
validation chose in RUN: the number of epochs, the policy that writes, how much texts count. The new run has no metrics of its own, for
nothing is left to measure with; those of RUN are what to expect. `recommend`, `serve`, `export` and `index` take it as any other.

Of a run with texts the language model is taken over as it is, and the trunk is trained anew. A new night, new data: the same command
again, with another --output.
"""


@click.command(
    "fit",
    cls=Command,
    help=HELP,
    short_help="Train a finished run once more on everything, for production.",
    usages=("rporec fit RUN [--output=NEW_RUN]",),
)
@run_argument
@click.option(
    "--output", "--run_dir", "output", metavar="FOLDER", help="The new run folder; default saved/MODEL-DATASET-TIME."
)
@click.option(
    "--model",
    metavar="MODULE:CLASS",
    help="Of a run of a class of somebody's own: which one it is. It is imported, so name none that you do not trust.",
)
@places_options
def command(run_dir: str, output: str | None, model: str | None, places: Mapping[str, str | None]) -> None:
    """Trains on everything and says what was taken over."""
    from rporec_recbole.runs.fit import fit

    done = fit(run_dir, output, model=model, **places)
    more = ", the language model and its trust as they were" if done.recipe.reasoned else ""
    print(
        f"Trained on all {done.interactions:,} interactions of {done.users:,} users and {done.items:,} items, {done.recipe.epochs} epochs{more}.\n"
        f"It has no metrics of its own: every interaction taught it. {run_dir} was measured; that is what to expect.\n"
        f"Everything is in {done.run_dir}; next: rporec recommend {done.run_dir}"
    )
