"""The commands that the README's tables and the texts of `--help` show, read off them as they stand there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rporec_recbole import cli

ROOT = Path(__file__).parent.parent
STARTS = ("rporec ", "python ", "torchrun ")

# What a form of a usage stands for. Everything else there is taken by its name: RUN is a folder called RUN, and FILE a file.
MEANT = {
    "PURCHASES": "purchases.csv",
    "--items=PRODUCTS": "--items=products.csv",
    "SOURCE": "ml-25m",
    "RAW": "ml-25m.zip",
    "--name=NAME": "--name=another",
    "--model=MODEL": "--model=SASRec",
    "--model=A,B": "--model=SASRec,Pop",
    "--dataset=DATASET": "--dataset=ml-100k",
    "DATASET": "ml-100k",
    "--dataset=NAME": "--dataset=ml-100k",
    "--preset=NAME": "--preset=paper",
    "--reference=NAME": "--reference=SASRec",
    "--compare=FILE": "--compare=FILE.yaml",
    "--sweep=FILE": "--sweep=properties/sweep/SASRec.yaml",
    "--storage=URL": "--storage=sqlite:///study.db",
    "--trials=N": "--trials=1",
    "--only=NAME,NAME": '--only="no CoT,history text"',
    "--users=ID,ID": "--users=ID",
    "--users=FILE": "--users=USERS",
    "--count=N": "--count=2",
    "--seed=N": "--seed=7",
    "--kind=ivfpq": "--kind=ivfpq --ivf_lists=2 --ivf_probes=2 --pq_parts=4 --pq_bits=4",  # for few and narrow vectors
}


def readme_rows(pages: Sequence[str] | None = None) -> dict[str, str]:
    """What README.md and docs/commands.md show: what one wants -> what is written beside it, in a table of commands or in a block.

    Args:
        pages: the texts of other pages.
    """
    files = ("docs/commands.md", "README.md")
    pages = [(ROOT / file).read_text(encoding="utf-8") for file in files] if pages is None else pages
    found = {}
    for text in pages:
        tables = re.findall(r"^\|[^|\n]*\| Command[^|\n]*\|\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
        rows = [line.strip("|").split(" | ", 1) for table in tables for line in table.splitlines()]
        found |= {want.strip(): given.strip() for want, given in rows}
        for line in re.findall(r"^    ((?:rporec|torchrun) .+)$", text, re.MULTILINE):
            code = line.split("  #")[0].strip()
            if not any(code in commands_of(row) for row in found.values()):  # a table may show it too
                found[code] = f"`{code}`"
    return found


def commands_of(row: str) -> list[str]:
    """The commands that a row of the README means, in their order.

    An option that stands alone is added to the command before it, in the place of that one's options, or to a run of RPORec.
    """
    named = re.search(r"`dataset/(\w+)/`", row)
    found: list[str] = []
    for code in re.findall(r"`([^`]+)`", row):
        if code.startswith(STARTS):
            found.append(code.replace(" ... ", " --model=RPORec --dataset=ml-100k "))
        elif code.startswith("--"):
            words = [word for word in found[-1].split() if not word.startswith("--")] if found else []
            start = " ".join(words) or f"rporec --model=RPORec --dataset={named[1] if named else 'ml-100k'}"
            found.append(f"{start} {code}")
        elif code == ".gguf":
            found.append(re.sub(r"--backbone=\S+", "--backbone=FILE.gguf", found[-1]))
    return found


def help_examples() -> dict[str, list[str]]:
    """The commands that `--help` shows: by the command's name, which is empty for the overview."""
    commands = {name: cli.group.get_command(None, name) for name in cli.COMMANDS}
    own = {name: examples_of(one.usages, one.examples, one.help, name == "run") for name, one in commands.items()}
    return {"": [code for code, _ in cli.EXAMPLES], **own}


def examples_of(
    usages: Sequence[str], examples: Sequence[tuple[str, str]], text: str, shortest: bool = False
) -> list[str]:
    """What a text of `--help` shows: its usages, its examples, and what stands between backticks.

    Args:
        usages, examples, text: of a command.
        shortest: of each usage its shortest form alone; those of a run show options of many trainings.
    """
    found = [form for usage in usages for form in forms_of(usage)[: 1 if shortest else None]]
    found += [code for code, _ in examples]
    found += [code for code in re.findall(r"`([^`]+)`", text) if re.match(r"(rporec|torchrun) .*[A-Z]{3}", code)]
    return list(dict.fromkeys(found))


_WORD = re.compile(r"""\[(?:"[^"]*"|[^\]"])*\]|(?:"[^"]*"|\[,[^\]]*\]|[^\s\["])+""")


def forms_of(usage: str) -> list[str]:
    """Commands that a usage allows: the shortest one, and one with all options for each of their alternatives."""
    words = _WORD.findall(usage.replace("RUN RUN", "RUN saved/OTHER_RUN"))
    slots = {word: slot for word in words if (slot := _alternatives(word))}
    rows = [[slot[0] for word, slot in slots.items() if not word.startswith("[")]]
    rows += [
        [slot[min(number, len(slot) - 1)] for slot in slots.values()] for number in range(max(map(len, slots.values())))
    ]
    return list(dict.fromkeys(map(" ".join, rows)))


def _alternatives(word: str) -> list[str]:
    """What a word of a usage may be, such as `--kind=exact|hnsw`; nothing for `...` and `--key=value`."""
    word = word[1:-1] if word.startswith("[") else re.sub(r"\[,[^\]]*\]", "", word)
    if word.endswith("..."):
        word = word.removesuffix("...").rstrip(" ,")
    if word in ("", "--key=value"):
        return []
    if '"' in word or word in MEANT:
        return [MEANT.get(word, word)]
    first, *others = word.split("|")
    key = f"{first.partition('=')[0]}=" if "=" in first else ""
    spelt = [first, *(one if one.startswith("--") else key + one for one in others)]
    return [MEANT.get(one, one) for one in (one.removesuffix(",...") for one in spelt)]
