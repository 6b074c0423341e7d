"""What the commands are made of, on click: how arguments are read, what values they take, how help is shown.

Every option may be written `--name=value` or `--name value`; switches may stand alone. This file and all that `cli.py` imports must
be light: help and refusals come at once, and torch takes seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from rporec_recbole.errors import ConfigError, RunFolderError, did_you_mean
from rporec_recbole.settings.known import parse_value

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
PLACES = ("data_path", "backbone", "text_encoder")
"""Options of every command that loads a finished run, see `runs.finished.load_run`; their values are texts."""


class Command(click.Command):
    """A command with our form of help, and our words for what cannot be read.

    Args:
        usages: its forms, as they may be typed.
        examples: commands that do something, each with what it does; the tests run them.
        settings: whether `--key=value` of any other name is allowed, and left in `ctx.args`.
    """

    def __init__(
        self,
        *arguments: Any,
        usages: Sequence[str] = (),
        examples: Sequence[tuple[str, str]] = (),
        settings: bool = False,
        **options: Any,
    ) -> None:
        known: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 120, "terminal_width": 120}
        if settings:
            known |= {"ignore_unknown_options": True, "allow_extra_args": True}
        options["context_settings"] = known
        super().__init__(*arguments, **options)
        self.usages, self.examples, self.settings = usages, examples, settings

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Click's own, on arguments that are spelt out.

        Raises:
            ConfigError: an option does not exist, has no value or two, or a word is missing or one too many.
        """
        if ctx.resilient_parsing:  # a shell completes what is not yet written out
            return super().parse_args(ctx, args)
        try:
            return super().parse_args(ctx, spelt_out(self, args))
        except click.UsageError as error:  # a word is missing, or one too many
            raise ConfigError(
                f"{error.format_message()} Write `{self.usages[0].partition(' [')[0]}`; `rporec {self.name} --help` shows the forms."
            ) from None

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The forms, one a line."""
        for number, usage in enumerate(self.usages):
            formatter.write(f"{'       ' if number else 'usage: '}{usage}\n")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write_dl(self.examples, col_max=78)


def spelt_out(command: Command, arguments: Sequence[str]) -> list[str]:
    """The same arguments with every option as `--name=value`.

    Args:
        command: whose options they are.
        arguments: as typed: `-m SASRec`, `--model SASRec`, `--model=SASRec`, `--controls`, words.

    Raises:
        ConfigError: an option does not exist, has no value, or stands twice with different ones.
    """
    options = {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}
    found, given, waiting = [], dict[str, str](), list(arguments)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.partition("=")
        if word in ("-h", "--help") or not (name in options or name.startswith("--")):
            found.append(word)
            continue
        option = options.get(name)
        if name == "--" or (option is None and not name[2:].isidentifier()):
            raise ConfigError(f"Cannot read the argument `{word}`. Write --key=VALUE.")
        if option is None and not command.settings:
            names = [one[2:] for one in options if one.startswith("--")]
            raise ConfigError(
                f"`{command.name}` has no option {name}.{did_you_mean(name[2:], names)} Its options: "
                f"{', '.join(f'--{one}' for one in names) or 'none'}."
            )
        if not equals:
            alone = isinstance(option.type, Truth) if option else False
            if alone and not (waiting and waiting[0].lower() in ("true", "false")):
                value = "True"
            elif waiting and not waiting[0].startswith("--"):
                value = waiting.pop(0)
            else:
                raise ConfigError(f"Cannot read the argument `{word}`. Write {name}=VALUE.")
        name = option.opts[0] if option else name
        if name == "--config_files":  # RecBole's users write them one after another, too
            while waiting and waiting[0].endswith((".yaml", ".yml")):
                value += f" {waiting.pop(0)}"
        if given.setdefault(name, value) != value and not (option and option.multiple):
            raise ConfigError(f"`{name}` is given twice, as {given[name]} and {value}. Give it once.")
        found.append(f"{name}={value}")
    return found


def settings_of(arguments: Iterable[str], texts: Iterable[str] = ()) -> dict[str, Any]:
    """`--key=value` of any name, with values as RecBole reads its own.

    Args:
        arguments: what a command with `settings` left over.
        texts: keys whose values stay texts.

    Raises:
        ConfigError: a word stands among them.
    """
    values = {}
    for argument in arguments:
        if not argument.startswith("--"):
            raise ConfigError(
                f"Cannot read the argument `{argument}`. Options are written --key=VALUE; `rporec --help` shows the forms."
            )
        key, _, text = argument[2:].partition("=")
        values[key] = text if key in texts else parse_value(text)
    return values


def given_options(ctx: click.Context) -> dict[str, Any]:
    """The options that were typed, by name; defaults are not among them."""
    from click.core import ParameterSource

    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


class Truth(click.ParamType):
    """True or False; the option alone means True. Where a word is allowed too (`--watch=FOLDER`), it stays a text."""

    name = "True|False"

    def __init__(self, or_text: bool = False) -> None:
        self.or_text = or_text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value.

        Raises:
            ConfigError: it is neither.
        """
        if isinstance(value, bool) or value is None:
            return value
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        if self.or_text:
            return value
        raise ConfigError(f"`{_named(param)}={value}` must be True or False.")


class Whole(click.ParamType):
    """A whole number of at least `least`."""

    name = "N"

    def __init__(self, least: int = 0) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The value.

        Raises:
            ConfigError: it is no such number.
        """
        number = parse_value(value) if isinstance(value, str) else value
        if type(number) is not int or number < self.least:
            raise ConfigError(f"`{_named(param)}={value}` must be a whole number of at least {self.least}.")
        return number


class OneOf(click.Choice):
    """One of some words."""

    def __init__(self, *words: str) -> None:
        super().__init__(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value.

        Raises:
            ConfigError: it is none of them.
        """
        if value is not None and value not in self.choices:
            allowed = " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
            raise ConfigError(f"`{_named(param)}={value}` must be {allowed}.{did_you_mean(value, self.choices)}")
        return value


class Literal(click.ParamType):
    """A value as Python and RecBole's command line have it: a number, a list, a mapping, a text."""

    name = "VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; a text is always something."""
        return parse_value(value) if isinstance(value, str) else value


class Completed(click.ParamType):
    """A text that a shell can complete.

    Args:
        name: what help calls it.
        words: gives the texts that there are.
    """

    def __init__(self, name: str, words: Callable[[], Iterable[str]]) -> None:
        self.name, self._words = name, words

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Those that begin with what is there."""
        return [CompletionItem(word) for word in self._words() if word.startswith(incomplete)]


class RunFolder(click.ParamType):
    """The folder of a finished run; where `or_file` is on, also a file of one."""

    name = "RUN"

    def __init__(self, or_file: bool = False) -> None:
        self._or_file = or_file

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value.

        Raises:
            RunFolderError: there is no such folder.
        """
        if not (Path(value).is_dir() or (self._or_file and Path(value).exists())):
            hint = did_you_mean(str(value), map(str, _folders_beside(Path(value))))
            raise RunFolderError(
                f"{value} holds no run: there is no such folder.{hint} Name the folder that a run wrote to."
            )
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Run folders, those of `saved/` first."""
        found = [path for path in _folders_beside(Path(incomplete or "saved/x")) if (path / "config.yaml").is_file()]
        return [CompletionItem(str(path)) for path in found if str(path).startswith(incomplete)] or [
            CompletionItem(incomplete, type="dir")
        ]


def _folders_beside(path: Path) -> list[Path]:
    parents = [parent for parent in (path.parent, Path("saved")) if parent.is_dir()]
    return sorted({folder for parent in parents for folder in parent.iterdir() if folder.is_dir()})


def _named(param: click.Parameter | None) -> str:
    return param.opts[0] if param and param.opts else "value"


def run_argument(function: Decorated) -> Decorated:
    """Adds the argument RUN."""
    return click.argument("run_dir", metavar="RUN", type=RunFolder())(function)


def places_options(function: Decorated) -> Decorated:
    """Adds the options that say where what a run needs has moved; the function takes them as the mapping `places`."""

    @functools.wraps(function)
    def with_places(*arguments: Any, **options: Any) -> Any:
        places = {key: options.pop(key) for key in PLACES}
        return function(*arguments, places=places, **options)

    told = {
        "data_path": ("DIR", "Where the data set's folder is now, if it moved since the run was made."),
        "backbone": ("PLACE", "Where its base model is now: a folder, an id or a .gguf file."),
        "text_encoder": ("PLACE", "Where its sentence encoder is now: a folder or an id."),
    }
    for key, (metavar, text) in reversed(told.items()):
        with_places = click.option(f"--{key}", metavar=metavar, help=text)(with_places)
    return with_places  # type: ignore[return-value]
