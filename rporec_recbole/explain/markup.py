"""Pages as self-contained HTML: no script, no network, no style but their own.

Titles, ids and what a language model wrote are untrusted. Every text passes `escaped`, and a content security policy allows
nothing but the one style sheet, by its hash: even a text that got through could load or run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import unicodedata
from pathlib import Path

from rporec_recbole.runs.titles import Item


def document(title: str, of: str, body: str, footer: str, *, images: bool = False) -> str:
    """A page, as text of UTF-8.

    Args:
        title: what it is, our own words.
        of: what it is about, untrusted.
        body: its elements.
        footer: the last line, elements.
        images: whether pictures that stand in the page itself may be shown (`data:`).
    """
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    pictures = " img-src data:;" if images else ""
    policy = f"default-src 'none'; style-src 'sha256-{digest}';{pictures} base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: {escaped(of)}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
<footer>{footer}</footer>
</main>
</body>
</html>
"""


def escaped(text: str) -> str:
    """Untrusted text, to stand between tags or in a quoted attribute: escaped, and without characters that nobody can see."""
    seen = "".join(c if c == "\n" or c.isprintable() else _shown(c) for c in text)
    return html.escape(seen, quote=True)


def _shown(character: str) -> str:
    # Controls, formats (right-to-left overrides among them) and lone surrogates, which no UTF-8 file could hold.
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character)[0] == "C" else " "


def named(text: str) -> str:
    """Untrusted text whose direction stays its own: Hebrew or Arabic titles leave the line around them as it is."""
    return f"<bdi>{escaped(text).replace(' · ', '&nbsp;· ')}</bdi>"  # no line starts with a dot


def titled(item: Item, chips: str = "") -> str:
    """An item by its title, with its attributes behind it."""
    details = f' <span class="details">{named(item.details)}</span>' if item.details else ""
    return f'<span class="title">{named(item.title)}</span>{chips}{details}'


def facts_list(shown: dict[str, str]) -> str:
    """Short facts side by side: name -> elements."""
    listed = "".join(f"<div><dt>{key}</dt><dd>{value}</dd></div>" for key, value in shown.items())
    return f'<dl class="facts">{listed}</dl>'
