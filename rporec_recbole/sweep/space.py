"""The search space as data: parameter by parameter, from a sweep's YAML or from RecBole's `hyper.test`.

Both forms name the same kinds:

    choice       one of a list
    uniform      lo, hi        a number between them
    quniform     lo, hi, q     a multiple of q between them
    loguniform   lo, hi        e to the power of a number between them: the bounds are natural logarithms, as in RecBole
    log          lo, hi        the same with the bounds themselves: `log 1e-4, 1e-2` is `loguniform -9.21, -4.61`
    int          lo, hi        a whole number, both ends included

In YAML: `space: {learning_rate: {log: [0.0001, 0.01]}, n_layers: {choice: [1, 2]}}`. In `hyper.test`, one a line:
`learning_rate loguniform -8,0`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rporec_recbole.errors import ConfigError, did_you_mean
from rporec_recbole.host.models import keys_of
from rporec_recbole.settings.known import parse_value, setting_problem
from rporec_recbole.settings.properties import read_yaml

_FORMS = {
    "choice": "a list of at least one value",
    "uniform": "lo, hi",
    "quniform": "lo, hi, q",
    "loguniform": "lo, hi (natural logarithms)",
    "log": "lo, hi (both above 0)",
    "int": "lo, hi (whole numbers)",
}
_NOT_SEARCHED = frozenset(
    [
        "model",
        "dataset",
        "data_path",
        "config_files",
        "run_dir",
        "checkpoint_dir",
        "gpu_id",
        "controls",
        "metrics",
        "topk",
        "valid_metric",
        "metric_decimal_place",
        "eval_args",
        "hide_seen",
    ]
)
"""Settings of the harness, and the yardstick that trials are compared by."""


@dataclass(frozen=True)
class Choice:
    """One of a list.

    Attributes:
        name: of the setting.
        values: at least one, of any YAML type.
        line: where it stands in its file.
    """

    name: str
    values: tuple[Any, ...]
    line: int = field(default=0, compare=False)

    def suggest(self, trial: Any) -> None:
        """Lets an Optuna trial choose; a study keeps texts, so other kinds of values are kept as JSON."""
        trial.suggest_categorical(self.name, [_label(value) for value in self.values])

    def value(self, kept: Any) -> Any:
        """The setting's value, from what the study keeps."""
        return next(value for value in self.values if _same(_label(value), kept))

    def grid(self) -> list[Any]:
        """All that the study could keep."""
        return [_label(value) for value in self.values]

    def examples(self) -> list[Any]:
        """Values whose types are those of all."""
        return list(self.values)

    def as_yaml(self) -> dict[str, Any]:
        """As in a sweep's YAML."""
        return {"choice": list(self.values)}


@dataclass(frozen=True)
class Range:
    """A number between two others, both included.

    Attributes:
        name: of the setting.
        low, high: the bounds themselves, whole numbers (int) where only whole numbers are meant.
        step: of the numbers that count from `low` on; None where all do.
        log: draw the logarithm evenly.
        line: where it stands in its file.
    """

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False
    line: int = field(default=0, compare=False)

    def suggest(self, trial: Any) -> None:
        """Lets an Optuna trial choose."""
        if isinstance(self.low, int) and self.step is not None:
            trial.suggest_int(self.name, self.low, self.high, step=int(self.step))
        else:
            trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def value(self, kept: Any) -> Any:
        """The setting's value, from what the study keeps."""
        return _round(kept) if self.step is not None else kept

    def grid(self) -> list[Any] | None:
        """All numbers that count, None where they are without end."""
        if self.step is None:
            return None
        return [self.value(self.low + self.step * k) for k in range(round((self.high - self.low) / self.step) + 1)]

    def examples(self) -> list[Any]:
        """Values whose types are those of all."""
        return [self.low, self.high]

    def as_yaml(self) -> dict[str, Any]:
        """As in a sweep's YAML."""
        if self.step is not None:
            return {"quniform": [self.low, self.high, self.step]}
        return {"log" if self.log else "uniform": [self.low, self.high]}


Parameter = Choice | Range


def read_space(path: str | Path) -> list[Parameter]:
    """The search space of a file: a sweep's YAML (`.yaml`, `.yml`), any other is in RecBole's format.

    Raises:
        ConfigError: with the line, what was given, and what is allowed.
    """
    path = Path(path)
    space = _from_yaml(path) if is_yaml(path) else _from_hyper_test(path)
    if not space:
        raise ConfigError(f"{path} has no parameter to search. Give at least one, such as `{_example(path)}`.")
    return space


def is_yaml(path: str | Path) -> bool:
    """Whether a sweep's file is in our format, by its suffix."""
    return Path(path).suffix.lower() in (".yaml", ".yml")


def check_space(
    path: str | Path, space: Iterable[Parameter], model: str, dataset: str, fixed: Mapping[str, Any]
) -> None:
    """Refuses parameters that cannot be searched, before anything is trained.

    Args:
        path: of the space, for the message.
        space: the parameters.
        model, dataset: what is trained, on what.
        fixed: settings that have a value already.

    Raises:
        ConfigError: lists all problems with their lines.
    """
    allowed = keys_of(model, dataset)
    problems = []
    for one in space:
        found = None
        if one.name in _NOT_SEARCHED:
            found = f"`{one.name}` cannot be searched: trials are compared under the same evaluation and data."
        elif one.name in fixed:
            found = f"`{one.name}` is searched, but also set to {fixed[one.name]!r}. Leave one of the two out."
        for value in one.examples():
            found = found or setting_problem(one.name, value, allowed, f"{model} on {dataset}")
        if found:
            problems.append(f"line {one.line}: {found}")
    if problems:
        raise ConfigError(f"The sweep {path}:\n  " + "\n  ".join(problems))


# --- both formats -------------------------------------------------------------------------------------------------


def _from_hyper_test(path: Path) -> list[Parameter]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the sweep {path}: {error}. Check the path.") from error
    space: list[Parameter] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split(None, 2)
        if len(words) < 3:
            raise ConfigError(
                f"{path}, line {number}: `{line.strip()}` is not `name type range`, such as `{_example(path)}`."
            )
        name, kind, text = words
        given = parse_value(text if kind == "choice" else f"[{text}]")
        if kind == "choice" and isinstance(given, (list, tuple)):
            given = [parse_value(value) if isinstance(value, str) else value for value in given]
        space.append(_parameter(path, number, name, kind, given, [one.name for one in space]))
    return space


def _from_yaml(path: Path) -> list[Parameter]:
    entries = read_yaml(path).get("space")
    if not isinstance(entries, dict):
        raise ConfigError(f"The sweep {path} needs `space:`, a mapping of parameters, such as `{_example(path)}`.")
    space: list[Parameter] = []
    for (name, entry), (key, line) in zip(entries.items(), _lines(path), strict=True):
        if not isinstance(entry, dict) or len(entry) != 1 or not isinstance(name, str):
            raise ConfigError(
                f"{path}, line {line}: `{key}: {entry}` is not one kind with its range, such as `{_example(path)}`."
            )
        kind, given = next(iter(entry.items()))
        space.append(_parameter(path, line, name, str(kind), given, []))
    return space


def _lines(path: Path) -> list[tuple[str, int]]:
    """The keys below `space`, in order, with their lines."""
    tree: Any = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    below = next(value for key, value in tree.value if key.value == "space")
    return [(key.value, key.start_mark.line + 1) for key, _ in below.value]


def _parameter(path: Path, line: int, name: str, kind: str, given: Any, before: Sequence[str]) -> Parameter:
    where = f"{path}, line {line}"
    if name in before:
        raise ConfigError(f"{where}: `{name}` stands twice. Leave one of them out.")
    if kind not in _FORMS:
        raise ConfigError(
            f"{where}: `{name}` is of the kind `{kind}`.{did_you_mean(kind, _FORMS)} Kinds: {', '.join(_FORMS)}."
        )
    wrong = ConfigError(f"{where}: `{name}` {kind} {given!r} cannot be read; {kind} takes {_FORMS[kind]}.")
    if kind == "choice":
        if not isinstance(given, (list, tuple)) or not given:
            raise wrong
        return Choice(name, tuple(given), line)
    if not isinstance(given, (list, tuple)) or not all(_is_number(number) for number in given):
        raise wrong
    if len(given) != (3 if kind == "quniform" else 2):
        raise wrong
    low, high = given[:2]
    step = given[2] if kind == "quniform" else 1 if kind == "int" else None
    if not low < high:
        raise ConfigError(f"{where}: `{name}` {kind} {given!r}: the lower bound comes first, and they must differ.")
    if kind == "int" and not (float(low).is_integer() and float(high).is_integer()):
        raise wrong
    if (kind == "log" and low <= 0) or (step is not None and step <= 0):
        raise wrong
    if kind == "loguniform":
        if high > 700:
            raise ConfigError(
                f"{where}: `{name}` loguniform {given!r}: the bounds are natural logarithms; write `log` for the bounds themselves."
            )
        low, high = math.exp(low), math.exp(high)
    if step is not None:
        low, high = math.ceil(low / step - 1e-9) * step, math.floor(high / step + 1e-9) * step
        if low > high:
            raise ConfigError(f"{where}: `{name}` {kind} {given!r}: no multiple of {step} lies between the bounds.")
        if all(float(number).is_integer() for number in (*given[:2], step)):
            return Range(name, int(low), int(high), int(step), line=line)
        return Range(name, _round(low), _round(high), float(step), line=line)
    return Range(name, float(low), float(high), log=kind in ("log", "loguniform"), line=line)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _round(number: float) -> float:
    return number if isinstance(number, int) else float(f"{number:.12g}")


def _label(value: Any) -> Any:
    plain = value is None or isinstance(value, (str, int, float, bool))
    return value if plain else json.dumps(value, default=str)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other  # 1, 1.0 and True are three choices


def _example(path: Path) -> str:
    return "space: {dropout: {uniform: [0.1, 0.5]}}" if is_yaml(path) else "dropout uniform 0.1,0.5"
