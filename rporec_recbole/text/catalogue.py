"""The text of every item, by RecBole's internal item id. Row 0 is the padding item and is empty."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class ItemText(NamedTuple):
    """One item in words.

    Attributes:
        title: cleaned title; never empty in a catalogue (the item's token stands in for a missing one).
        attributes: cleaned attribute texts such as genres or year; missing ones are empty.
    """

    title: str
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalogue:
    """Item texts, indexed by item id.

    Attributes:
        items: one `ItemText` per id, `items[0]` is padding.
        fields: names of the columns that the texts come from, title first.
        untitled: how many items had no title.
        named: whether a line names the column of each attribute, as in `Heat | genre: Crime`.
    """

    items: Sequence[ItemText]
    fields: tuple[str, ...]
    untitled: int = 0
    named: bool = False
    lines: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = self.fields[1:] if self.named else ()
        object.__setattr__(self, "lines", tuple(describe(item, names) for item in self.items))

    def __len__(self) -> int:
        return len(self.items)


def clean_text(text: str, max_characters: int) -> str:
    """Makes untrusted text safe to stand inside a prompt.

    Control and format characters (right-to-left overrides among them) go, white space of any kind becomes one space,
    and the characters that structure prompts and completions are replaced: `<` and `>` by angle quotes, so that a
    title cannot open or close a section, and `|` by `/`, so that it cannot add a field.

    Args:
        text: any string.
        max_characters: longer texts are cut at the last space before the limit, if there is one.
    """
    visible = "".join(
        " " if c.isspace() else c for c in text if c.isspace() or not unicodedata.category(c).startswith("C")
    )
    words = visible.replace("<", "‹").replace(">", "›").replace("|", "/").split()
    cleaned = " ".join(words)
    if len(cleaned) <= max_characters:
        return cleaned
    head = cleaned[: max_characters + 1].rsplit(" ", 1)[0]
    return head if len(head) <= max_characters else cleaned[:max_characters]


def describe(item: ItemText, names: Sequence[str] = ()) -> str:
    """`title | attribute | attribute`, missing attributes left out; the form in which answers name an item.

    Args:
        item: in words.
        names: of its attributes, which then stand in front of them, as in `name: attribute`.
    """
    attributes = item.attributes
    if names:
        attributes = tuple(f"{name}: {part}" for name, part in zip(names, attributes, strict=True) if part)
    return " | ".join(part for part in (item.title, *attributes) if part)


def title_of(line: str) -> str:
    """The title in a line that `describe` made."""
    return line.split(" | ")[0]


def build_catalogue(
    columns: Sequence[Sequence[str]],
    tokens: Sequence[str],
    fields: Sequence[str],
    max_characters: int = 80,
    named: bool = False,
) -> Catalogue:
    """Builds a catalogue from raw columns.

    Args:
        columns: one sequence of texts per field, title first, each as long as `tokens`.
        tokens: the items' original tokens; row 0 is padding.
        fields: the columns' names.
        max_characters: see `clean_text`.
        named: see `Catalogue`.
    """
    items = [ItemText("", tuple("" for _ in fields[1:]))]
    untitled = 0
    for index in range(1, len(tokens)):
        title, *attributes = (clean_text(column[index], max_characters) for column in columns)
        if not title:
            untitled += 1
            title = f"item {clean_text(str(tokens[index]), max_characters)}"
        items.append(ItemText(title, tuple(attributes)))
    return Catalogue(items, tuple(fields), untitled, named)
