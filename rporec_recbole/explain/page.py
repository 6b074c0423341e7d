"""The page of single users: what each chose, what the language model wrote about it, and what was ranked best."""

from __future__ import annotations

from rporec_recbole.explain.facts import Chosen, Explanation, Facts, Ranked, Thought
from rporec_recbole.explain.markup import document, escaped, facts_list, named, titled
from rporec_recbole.text.prompts import written

_NEWEST = 8  # steps of a history that stand open
_FOOTER = "Made by <code>rporec explain</code>. Ranks are those of the evaluation: ties count against an item."


COUNTS_NOTHING = (
    "The texts count 0 in this run: on positions that were held out for this choice, no weight of them ranked better than none. So there is one "
    "ranking, that of the trunk."
)


def page(facts: Facts) -> str:
    """The page, as text of UTF-8."""
    reasoned = any(one.reasoning for one in facts.users)
    title = "What the reasoning did" if reasoned else "What was recommended"
    cards = "".join(user_card(one, number, facts) for number, one in enumerate(facts.users, start=1))
    return document(title, facts.run, f"{_head(facts, title, reasoned)}\n{cards}", _FOOTER)


# --- parts of the page ------------------------------------------------------------------------------------------------


def _head(facts: Facts, title: str, reasoned: bool) -> str:
    shown = {
        "Model": named(facts.model),
        "Data": f"{named(facts.dataset)}, {facts.split}",
        "Users here": f"{len(facts.users):,} of {facts.rows:,}",
        "Items ranked": f"{facts.candidates:,}",
        "Seen items": "hidden" if facts.hide_seen else "ranked too",
        "Seed": str(facts.seed),
    }
    counts = any(one.target_without is not None for one in facts.users)
    if counts:
        moves = [one.target.other_rank - one.target.rank for one in facts.users if one.target.other_rank]
        shown["Target with reasoning"] = (
            f'<span class="up">{sum(move > 0 for move in moves)} up</span>, '
            f'<span class="down">{sum(move < 0 for move in moves)} down</span>, {sum(move == 0 for move in moves)} as before'
        )
    links = "".join(
        f'<a href="#u{number}">{named(one.user_id)} <small>rank {one.target.rank:,}{_arrow(one.target)}</small></a>'
        for number, one in enumerate(facts.users, start=1)
    )
    lead = f"Run {named(facts.run)}. "
    if counts:
        lead += "Each card holds what one user chose, what the language model wrote about it, and the ranking with and without that text."
    elif reasoned:
        lead += f"Each card holds what one user chose, what the language model wrote about it, and what was ranked best. {COUNTS_NOTHING}"
    else:
        lead += "Each card holds what one user chose and what was ranked best. The scores of this run use no reasoning."
    return f"""<h1>{title}</h1>
<p class="lead">{lead}</p>
{facts_list(shown)}
{_help(counts)}
<nav class="jump" aria-label="Users">{links}</nav>"""


def _help(counts: bool) -> str:
    target = """<p><b>Target</b> is what the user really chose next. It is marked for you, the reader; no prompt holds it and no score
reads it. Its rank is its place among all ranked items; 1 is best.</p>"""
    if not counts:
        return f'<details class="help"><summary>How to read this page</summary>{target}</details>'
    return f"""<details class="help"><summary>How to read this page</summary>{target}
<p><b>Gate</b> says how much the head let the text count, from 0 (not at all) to 1. <b>State moved</b> is the length of what the
text added to the user&#x27;s vector, beside the length of that vector: with a small one the ranking can hardly change, however
open the gate is. A malformed text counts for nothing. Where the head also reads the titles of the history as text
(<code>fusion_reads_history</code>), both stand for that too.</p>
<p>An arrow says by how many places reasoning lifted (▲) or lowered (▼) an item. That one ranking is better for one user is no
proof that the reasoning was its cause; <code>rporec controls</code> asks that over all users.</p></details>"""


def user_card(one: Explanation, number: int, facts: Facts) -> str:
    """One user: history, text, rankings.

    Args:
        one: the user's explanation.
        number: of the card, from 1.
        facts: that it is among.
    """
    places = f"<div><dt>rank of {facts.candidates:,}</dt><dd>{one.target.rank:,}</dd></div>"
    if one.target_without is not None:
        places += f'<div><dt>without reasoning</dt><dd class="bare">{one.target_without.rank:,}</dd></div>'
        places += f"<div><dt>moved</dt><dd>{_moved(one.target) or '–'}</dd></div>"
    thought = "" if one.reasoning is None else _thought(one.reasoning, facts.candidates)
    return f"""<article id="u{number}">
<header>
<div class="next"><h2>User {named(one.user_id)}</h2><p>chose next: {titled(one.target.item)}</p></div>
<dl class="places">{places}</dl>
</header>
{_columns(_history(one.history), thought, "columns")}
{_columns(_top(one, with_reasoning=True), _top(one, with_reasoning=False), "columns even")}
</article>
"""


def _columns(left: str, right: str, kind: str) -> str:
    return f'<div class="{kind}{"" if right else " single"}">{left}{right}</div>'


def _history(history: list[Chosen]) -> str:
    older, newest = history[:-_NEWEST], history[-_NEWEST:]
    if len(older) == 1:
        older, newest = [], history
    folded = ""
    if older:
        folded = f"""<details class="older"><summary>{len(older):,} older items</summary><ol>{_steps(older, 1)}</ol></details>"""
    key = '<p class="key">shown to the language model</p>' if any(step.in_prompt for step in history) else ""
    return f"""<section class="history"><h3>History <small>{len(history):,} items that the model reads, the newest last</small></h3>
{folded}<ol>{_steps(newest, len(older) + 1)}</ol>{key}</section>"""


def _steps(steps: list[Chosen], first: int) -> str:
    lines = []
    for number, step in enumerate(steps, start=first):
        rating = "" if step.rating is None else f'<span class="rating">rated {escaped(written(step.rating))}</span>'
        hint = '<span class="hidden-text"> (in the prompt)</span>' if step.in_prompt else ""
        lines.append(
            f'<li class="step{" shown" if step.in_prompt else ""}"><span class="number">{number}</span>'
            f"<span>{titled(step.item)}{hint}</span>{rating}</li>"
        )
    return "".join(lines)


def _thought(thought: Thought, candidates: int) -> str:
    nothing = "" if thought.counts else ' <span class="chip bad">counts 0 in the ranking</span>'
    if not thought.well_formed:
        return f"""<section class="thought"><h3>Reasoning <span class="chip bad">malformed, counted for nothing</span></h3>
<pre>{escaped(thought.text)}</pre></section>"""
    parts = thought.sections or {"reasoning": thought.cot}
    said = "".join(f"<dt>{name.capitalize()}</dt><dd>{named(text)}</dd>" for name, text in parts.items())
    guessed = thought.answer_item
    where = "no item of the catalogue goes by these very words"
    if guessed is not None:
        where = f"an item of the catalogue, rank {guessed.rank:,} of {candidates:,}{_arrow(guessed)}"
    return f"""<section class="thought"><h3>Reasoning <span class="chip">well-formed</span>{nothing}</h3>
<dl class="said">{said}</dl>
<p class="guess"><span class="label">Guess</span><b>{named(thought.answer)}</b> <span class="label">{where}</span></p>
{_gauges(thought)}{_heard(thought)}<details class="raw"><summary>The text as written</summary><pre>{escaped(thought.text)}</pre></details></section>"""


def _heard(thought: Thought) -> str:
    if not thought.heard:
        return ""
    rows = "".join(f"<li>{named(one.item.title)} <b>{one.added:+.2f}</b></li>" for one in thought.heard)
    return f'<p class="label">Named by the answers, and what that adds to their scores</p><ol class="heard">{rows}</ol>'


def _gauges(thought: Thought) -> str:
    if not thought.counts:
        return ""
    gate = thought.gate or 0.0
    return f'<div class="gauges">{_gauge("Gate", gate, f"{gate:.2f}")}{_gauge("State moved", thought.moved, f"{thought.moved:.1%}")}</div>\n'


def _gauge(name: str, share: float, value: str) -> str:
    width = f"{100 * min(1.0, max(0.0, share)):.1f}"
    return f"""<div class="gauge"><div class="value"><span>{name}</span><b>{value}</b></div>
<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="8"/><rect class="fill" width="{width}" height="8"/></svg></div>"""


def _top(one: Explanation, with_reasoning: bool) -> str:
    reasoned = one.target_without is not None
    ranking, target = (one.top, one.target) if with_reasoning else (one.top_without, one.target_without)
    if target is None:
        return ""
    name = f"Top {len(ranking)}" + (f" {'with' if with_reasoning else 'without'} reasoning" if reasoned else "")
    there = any(entry.is_target for entry in ranking)
    rows = "".join(_row(entry, with_reasoning, reasoned) for entry in ranking)
    rows += "" if there else _row(target, with_reasoning, reasoned, far=True)
    moved = f"<th>{'moved' if with_reasoning else 'moves'}</th>" if reasoned else ""
    return f"""<section class="top"><h3>{name}</h3>
<table><thead><tr><th>rank</th><th>item</th><th>score</th>{moved}</tr></thead><tbody>{rows}</tbody></table></section>"""


def _row(entry: Ranked, with_reasoning: bool, reasoned: bool, far: bool = False) -> str:
    kinds = " ".join(name for name, there in (("target", entry.is_target), ("far", far)) if there)
    chips = ' <span class="chip">target</span>' if entry.is_target else ""
    chips += ' <span class="chip seen">chosen before</span>' if entry.in_history else ""
    moved = ""
    if reasoned:
        # Beside it stands the place in the other list: where an item came from, or where it goes to.
        place = (
            ""
            if entry.other_rank in (None, entry.rank)
            else f"{'from' if with_reasoning else 'to'} {entry.other_rank:,}"
        )
        moved = f'<td class="move">{_moved(entry, with_reasoning) or "<span class=same>–</span>"} <span class="from">{place}</span></td>'
    score = "" if entry.score is None else f"{entry.score:.3f}"
    return f"""<tr{f' class="{kinds}"' if kinds else ""}><td class="rank">{entry.rank:,}</td><td>{titled(entry.item, chips)}</td><td class="score">{score}</td>{moved}</tr>"""


def _moved(entry: Ranked, with_reasoning: bool = True) -> str:
    """`▲ 3` where reasoning lifts an item by three places; empty where it stays."""
    if entry.other_rank is None or entry.other_rank == entry.rank:
        return ""
    lift = (entry.other_rank - entry.rank) * (1 if with_reasoning else -1)
    return f'<span class="{"up" if lift > 0 else "down"}">{"▲" if lift > 0 else "▼"} {abs(lift):,}</span>'


def _arrow(entry: Ranked) -> str:
    moved = _moved(entry)
    return f" {moved}" if moved else ""
