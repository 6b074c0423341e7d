"""What the texts of public data sets need before people and models can read them."""

from __future__ import annotations

import html
import re

_YEAR = re.compile(r"\s*\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\s*\)\s*$")
_ARTICLES = r"The|A|An|Les|Le|La|L'|Der|Die|Das|Den|Det|El|Los|Las|Il|Lo|I|Gli|Un|Une|Una|Ein|Eine|O|Os|As"
_ARTICLE_BEHIND = re.compile(rf"^(.+?), ({_ARTICLES})(?= \(|$)")
_TAG = re.compile(r"<[^>]*>")
_SCRIPT = re.compile(r"<script|function\s*\(|var aPageStart|\.getTime\(\)|P\.when\(|<style", re.IGNORECASE)


def film_title(text: str) -> str:
    """A title of MovieLens without its year, its article in front: `Matrix, The (1999)` is `The Matrix`."""
    title = _YEAR.sub("", text.strip())
    found = _ARTICLE_BEHIND.match(title)
    if not found:
        return title
    space = "" if found[2].endswith("'") else " "
    return f"{found[2]}{space}{found[1]}{title[found.end() :]}"


def film_year(text: str) -> str:
    """The year at the end of a title of MovieLens, the first one of a series; empty where there is none."""
    found = _YEAR.search(text)
    return found[1] if found else ""


def film_genres(text: str) -> str:
    """Genres with spaces between them, as RecBole's files have them."""
    return "" if text == "(no genres listed)" else " ".join(text.split("|"))


def without_html(text: str) -> str:
    """A text of a web page without entities and tags; empty where it is a script that was taken for a title."""
    if _SCRIPT.search(text):
        return ""
    # Twice: some texts were escaped twice.
    plain = html.unescape(html.unescape(text))
    return " ".join(_TAG.sub(" ", plain).split())


def brand(text: str) -> str:
    """A brand of Amazon's pages of 2018, which begin with `by` and many blanks."""
    return re.sub(r"^by\s+", "", without_html(text))


def said(text: str) -> str:
    """Empty for what stands for nothing."""
    return "" if text.strip().upper() in ("UNKNOWN", "NAN", "NONE", "NULL", "[]", "-124") else text
