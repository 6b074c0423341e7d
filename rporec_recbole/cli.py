"""The command line: `rporec`, and `python run_recbole.py`. Sub-commands are read when they are asked for."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from keyword import iskeyword

import click

from rporec_recbole.errors import ConfigError, RPORecError, did_you_mean
from rporec_recbole.version import __version__

COMMANDS = (
    "import",
    "run",
    "compare",
    "split",
    "controls",
    "recommend",
    "fit",
    "explain",
    "export",
    "index",
    "serve",
    "cots",
    "models",
    "datasets",
    "doctor",
    "completion",
)
"""Sub-commands, each a file of `commands/` that holds a `command`."""

USAGES = (
    "rporec --model=MODEL --dataset=DATASET [--key=value ...]",
    "rporec COMMAND ...",
)
EXAMPLES = (
    ("rporec --model=RPORec --dataset=ml-100k", "both stages on a laptop, 5 to 12 minutes"),
    ('rporec --model=RPORec --dataset=ml-100k --stages="[1a]"', "its trunk alone"),
    ("rporec --model=SASRec --dataset=ml-100k --epochs=30", "a baseline, same split and metrics"),
    ("rporec --model=RPORec,SASRec,GRU4Rec,Pop --dataset=ml-100k --seeds=2", "side by side, with paired tests"),
    ("rporec recommend RUN --top_k=10", "what a finished run would show its users"),
)


class Commands(click.Group):
    """The group of all commands; arguments that begin with an option are those of `rporec run`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of a user's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports a command."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"rporec_recbole.commands.{name}{'_' if iskeyword(name) else ''}")
        return module.command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Click's own; a run needs no name."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names.

        Raises:
            ConfigError: it names none.
        """
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise ConfigError(
                f"Cannot read the argument `{args[0]}`.{did_you_mean(args[0], COMMANDS)} `rporec --help` shows the forms."
            )
        return super().resolve_command(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The two forms."""
        for number, usage in enumerate(USAGES):
            formatter.write(f"{'       ' if number else 'usage: '}{usage}\n")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        with formatter.section("Examples"):
            formatter.write_dl(EXAMPLES, col_max=78)


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"rporec_recbole {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "terminal_width": 120},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="The version.")
def group() -> None:
    """A language model that reasons in text and a recommendation head that retrieves items precisely, on RecBole.

    Trains and evaluates one model on one data set and writes a run folder; or several, and compares them; and does
    with finished runs what the commands say. `rporec run --help` explains the options of a run, `rporec COMMAND --help` a command.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, or 2 with one message for what the user can repair."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    warnings.filterwarnings("ignore", category=FutureWarning)
    if (
        not sys.stderr.isatty()
    ):  # before it is imported: tqdm takes its default from here, for the bars of every library
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        if "_RPOREC_COMPLETE" in os.environ:  # a shell asks
            group.main(given, prog_name="rporec")
        with group.make_context("rporec", given or ["--help"]) as ctx:
            group.invoke(ctx)
        return 0
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except RPORecError as error:
        print(f"rporec: {error}", file=sys.stderr)
        return 2
    except click.ClickException as error:
        print(f"rporec: {error.format_message()}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `rporec cots show RUN | head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.Abort):
        print("rporec: interrupted; what was written so far stays in the run folder.", file=sys.stderr)
        return 130
