"""`report.html` of a run folder: what was run, how good it is beside simpler things, three users, and where everything lies."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rporec_recbole.data.files import write_text
from rporec_recbole.evaluation.plots import plot_key_curves
from rporec_recbole.explain import story
from rporec_recbole.explain.explanation import facts_of
from rporec_recbole.explain.facts import Facts
from rporec_recbole.explain.markup import document, escaped, facts_list, named
from rporec_recbole.explain.page import COUNTS_NOTHING, user_card
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.folder import REPORT, read_config, read_results

USERS = 3


def write_report(run: LoadedRun, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Writes the page of a run whose results are written.

    Args:
        run: as it is in memory; texts that the shown users lack are written.
        curves: name -> (step, value) pairs.
    """
    metrics, _ = read_results(run.run_dir)
    facts = None
    if hasattr(run.model, "ITEM_SEQ") and metrics.get("mode", "full") == "full":
        facts = facts_of(run, sample=USERS, seed=int(metrics["seed"]), split="test" if "test" in metrics else "valid")
    config = read_config(run.run_dir)
    write_text(run.run_dir / REPORT, report(run.run_dir, metrics, config, curves, facts))
    logging.getLogger().info(f"what the run shows, for a browser: {run.run_dir / REPORT}")


def report(
    folder: Path,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    curves: Mapping[str, Sequence[tuple[int, float]]],
    facts: Facts | None,
) -> str:
    """The page, as text of UTF-8.

    Args:
        folder: of the run.
        metrics: content of its `metrics.json`.
        config: content of its `config.yaml`.
        curves: name -> (step, value) pairs.
        facts: some of its users; None for a model that reads no histories.
    """
    title = f"{named(metrics['model'])} on {named(metrics['dataset'])}"
    parts = [
        f'<h1>{title}</h1>\n<p class="lead">Run {named(folder.resolve().name)}</p>',
        _numbers(metrics),
        _section("What was run", "".join(f"<p>{escaped(one)}</p>" for one in story.what_was_run(metrics, config))),
        _section("How good it is", _results(metrics)),
        _texts(metrics, folder.resolve().name),
        _curves(curves),
        _users(facts),
        _section("Where the time went", _seconds(metrics)),
        _section("Where everything lies", _files(folder)),
    ]
    return document(
        "A run",
        folder.resolve().name,
        "\n".join(parts),
        "Made at the end of the run. It needs no network.",
        images=True,
    )


def _section(name: str, body: str) -> str:
    return f'<section class="part"><h2>{name}</h2>{body}</section>' if body else ""


def _numbers(metrics: Mapping[str, Any]) -> str:
    shown = {
        "Users": f"{metrics['users']:,}",
        "Items": f"{metrics['candidates']:,}",
        "Seen items": "hidden" if metrics["hide_seen"] else "ranked too",
        "Weights": f"{metrics['parameters']:,}",
        **({"Language model": named(metrics["backbone"]["name"])} if "backbone" in metrics else {}),
        "Seed": str(metrics["seed"]),
        "Minutes": f"{sum(one['seconds'] for one in metrics['stages'].values()) / 60:.1f}",
    }
    return facts_list(shown)


def _results(metrics: Mapping[str, Any]) -> str:
    names, rows = story.shown_metrics(metrics), story.results_of(metrics)
    tables = ""
    for split, words in (("test", "test split"), ("valid", "validation")):
        if split in metrics:
            head = f"<th>{words}</th>" + "".join(f"<th>{escaped(name)}</th>" for name in names)
            tables += f'<table class="wide"><thead><tr>{head}</tr></thead><tbody>'
            for who, results in rows.items():
                cells = "".join(_cell(results.get(split, {}).get(name)) for name in names)
                own = ' class="target"' if who == "this run" else ""
                tables += f'<tr{own}><td class="who">{who}</td>{cells}</tr>'
            tables += "</tbody></table>"
    said = ""
    hit = next((name for name in names if name.startswith("hit@")), None)
    if hit and "test" in metrics:
        several = metrics.get("time_split", {}).get("test", {})
        lists = "users of a hundred have their kept item"
        if several.get("targets", 0) > several.get("users", 0):
            lists = "of a hundred kept items are"
        said = f"<p>{_of_hundred(metrics['test'][hit])} {lists} among the best {hit.partition('@')[2]} of {metrics['candidates']:,}"
        popular = rows.get("the most popular items, the same for everybody", {}).get("test", {}).get(hit)
        said += "" if popular is None else f"; with the most popular items alone it is {_of_hundred(popular)}"
        said += ".</p>"
    key = '<p class="key-of">hit: the kept item is among the best so many; ndcg and mrr: how high it stands there. 1 is the most, 0 the least.</p>'
    return f'{said}<div class="beside">{tables}</div>{key}'


def _cell(value: float | None) -> str:
    return f'<td class="score">{"–" if value is None else f"{value:.4f}"}</td>'


def _of_hundred(share: float) -> str:
    return f"{100 * share:.0f}" if share == 0 or share >= 0.01 else f"{100 * share:.2g}"


def _texts(metrics: Mapping[str, Any], name: str) -> str:
    said = [
        story.what_texts_count(metrics),
        *story.what_answers_know(metrics),
        story.what_stage_2_brought(metrics),
        story.what_to_ask_next(metrics, name),
    ]
    return _section("What the language model knows", "".join(f"<p>{escaped(one)}</p>" for one in said if one))


def _curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    chosen = story.key_curves(curves)
    if not chosen:
        return ""
    picture = io.BytesIO()
    plot_key_curves(chosen).savefig(picture, format="png", dpi=100)
    content = base64.b64encode(picture.getvalue()).decode()
    words = escaped("; ".join(chosen))
    return _section("How it learned", f'<img alt="{words}" src="data:image/png;base64,{content}">')


def _users(facts: Facts | None) -> str:
    if facts is None or not facts.users:
        return ""
    lead = f"Drawn at random from {facts.rows:,} of the {facts.split} split. The kept item is marked for you, the reader; no text and no score has seen it."
    if any(one.reasoning is not None and not one.reasoning.counts for one in facts.users):
        lead += f" {COUNTS_NOTHING}"
    cards = "".join(user_card(one, number, facts) for number, one in enumerate(facts.users, start=1))
    return f'<section class="part"><h2>{len(facts.users)} users</h2><p>{lead}</p></section>\n{cards}'


def _seconds(metrics: Mapping[str, Any]) -> str:
    total = sum(one["seconds"] for one in metrics["stages"].values()) or 1.0
    rows = "".join(
        f'<tr><td class="who">{escaped(one["name"])}</td><td class="score">{one["seconds"]:,.1f} s</td>'
        f'<td class="score">{one["seconds"] / total:.0%}</td></tr>'
        for one in metrics["stages"].values()
    )
    return f'<table class="wide"><tbody>{rows}</tbody></table>'


def _files(folder: Path) -> str:
    rows = "".join(
        f'<tr><td class="who"><a href="{name}">{name}</a></td><td>{escaped(what)}</td></tr>'
        for name, what in story.files_of(folder).items()
    )
    return f'<p>In <code>{escaped(str(folder.resolve()))}</code></p><table class="wide"><tbody>{rows}</tbody></table>'
