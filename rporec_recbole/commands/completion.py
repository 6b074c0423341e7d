"""`rporec completion`: what a shell needs to complete commands, options, models, data sets and runs."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rporec_recbole.commands.arguments import Command, OneOf
from rporec_recbole.errors import ConfigError

HELP = """\
Prints what makes a shell complete the commands, their options, and names of models, data sets and run folders.

\b
bash  eval "$(rporec completion bash)" in ~/.bashrc
zsh   eval "$(rporec completion zsh)" in ~/.zshrc
fish  rporec completion fish > ~/.config/fish/completions/rporec.fish
"""


@click.command(
    "completion",
    cls=Command,
    help=HELP,
    short_help="Make the shell complete names.",
    usages=("rporec completion bash|zsh|fish",),
)
@click.argument("shell", metavar="bash|zsh|fish", type=OneOf("bash", "zsh", "fish"))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Prints the shell's script."""
    found = get_completion_class(shell)
    if found is None:
        raise ConfigError(f"Click knows no completion for {shell}.")
    root = ctx.find_root()
    made = found(root.command, {}, "rporec", "_RPOREC_COMPLETE")
    print(made.source_template % made.source_vars())
