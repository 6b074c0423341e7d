"""What a word is, for all that compares texts word by word (`lsa`, the matching of answers).

A word is a run of letters and digits; in scripts that set no spaces between words every character is one, and pairs of
neighbours, which `lsa` counts as well, take the place of words. In scripts of India a vowel sign is a part of its word, though
it is no letter.
"""

from __future__ import annotations

import re

# Thai, Lao, Tibetan, Myanmar, Khmer, kana and Han, by their blocks of the Unicode standard (version 16).
_WITHOUT_SPACES = (
    "\u0e01-\u0e5b\u0e81-\u0edf\u0f00-\u0fd4\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd"
)
_INDIC = "\u0900-\u0963\u0966-\u0dff"  # but for the marks that end a sentence
LETTERS = r"(?u)\b\w+\b"
"""Words by spaces alone, as runs of before had them."""
WORD = rf"(?u)[{_WITHOUT_SPACES}]|[^\W{_WITHOUT_SPACES}{_INDIC}]+|[{_INDIC}]+"
"""A pattern that finds all words of a text."""
_FIND = re.compile(WORD)


def terms_of(text: str) -> list[str]:
    """The distinct words of a text in lower case, sorted: the terms that `lsa` counts one by one."""
    return sorted(set(_FIND.findall(text.lower())))
