"""`rporec explain`: facts that are the evaluation's own, and a page that no title can break."""

import dataclasses
import html
import json
import os
import random
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import pandas as pd
import pytest

from rporec_recbole.cli import main
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.explain.explanation import differing, explain
from rporec_recbole.explain.page import page
from rporec_recbole.runs import known, titles
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from rporec_recbole.runs.titles import items_of
from tests.integration.reasoned import with_texts, without_strength
from tests.toy import SHORT, TEXT, write_toy

EVIL = {
    "i3": "<img src=x onerror=alert(1)>",
    "i4": "</script><script>alert(1)</script>",
    "i5": "\u202egnp.exe\u2066 \x00\x07 right to left",
    "i6": "'\"><svg onload=alert(1)> &amp; &lt;b&gt;",
    "i7": "סרט ישן",
    "i8": "a" * 70,
}
VOID = {"meta", "link", "br", "img", "input", "hr"}


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """The toy data set with titles and users that would like to be code."""
    parent = write_toy(tmp_path_factory.mktemp("evil"))
    path = parent / "toy" / "toy.item"
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [[line[0], EVIL.get(line[0], line[1]), *line[2:]] for line in lines]
    path.write_text("\n".join("\t".join(line) for line in lines) + "\n", encoding="utf-8")
    path = parent / "toy" / "toy.inter"
    path.write_text(path.read_text().replace("u3\t", "<script>alert(3)</script>\t"))
    return parent


@pytest.fixture(scope="module")
def trained(evil, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    settings = {**SHORT, **TEXT, "stages": ["1a", "1b", "1c"], "data_path": str(evil), "run_dir": str(folder)}
    return run("RPORec", "toy", overrides=settings).run_dir


@pytest.fixture(scope="module")
def reasoned(trained, tmp_path_factory):
    return with_texts(trained, tmp_path_factory.mktemp("runs") / "<b>reasoned & sound")


@pytest.fixture(scope="module")
def facts(reasoned):
    return explain(reasoned, sample=1000)


def ranks_of(folder, split="test"):
    table = pd.read_parquet(folder / "ranks.parquet").query("split == @split")
    return dict(zip(zip(table["user_id"], table["item_id"], strict=True), table["rank"], strict=True))


def found(facts):
    return {(one.user_id, one.target.item.item_id): one.target.rank for one in facts.users}


@pytest.mark.parametrize("split", ["valid", "test"])
def test_ranks_are_those_of_the_run(trained, split):
    assert found(explain(trained, sample=1000, split=split)) == ranks_of(trained, split)


@pytest.mark.parametrize("user", ["u1", "u12"])
def test_a_single_user(reasoned, facts, user):
    (one,) = explain(reasoned, [user]).users
    assert one.user_id == user
    (same,) = [other for other in facts.users if other.user_id == user]
    assert one.target.rank == same.target.rank


def test_the_page_goes_through_a_link_and_down_a_pipe(trained, tmp_path):
    link, target = tmp_path / "link.json", tmp_path / "target.json"
    link.symlink_to(target)
    assert main(["explain", str(trained), "--sample=1", "--format=json", f"--output={link}"]) == 0
    assert link.is_symlink()
    end, pipe = os.pipe()
    with ThreadPoolExecutor(1) as readers, open(end, encoding="utf-8") as reader:
        piped = readers.submit(reader.read)
        with open(pipe, "w"):
            assert main(["explain", str(trained), "--sample=1", "--format=json", f"--output=/dev/fd/{pipe}"]) == 0
        assert piped.result() == target.read_text()


def test_reasoning_that_counts_for_nothing_is_shown_and_said_to(reasoned, trained, tmp_path, capsys):
    folder = without_strength(reasoned, tmp_path / "run")
    shutil.copy(trained / "ranks.parquet", folder / "ranks.parquet")
    for one in explain(folder, sample=3).users:
        assert not one.reasoning.counts
        assert one.reasoning.text
        assert one.reasoning.heard == []
        assert one.target_without is None
        assert not one.top_without
        assert any(step.in_prompt for step in one.history)
    store = CoTStore(folder / "reasoning.sqlite")
    assert len(store) >= 3  # of these users alone
    store.close()
    assert main(["explain", str(folder), "--users=u1,u2"]) == 0
    text = (folder / "explanation.html").read_text(encoding="utf-8")
    assert "The texts count 0 in this run" in text
    assert "without reasoning" not in text
    assert Reader(text).tags.count("table") == 2
    assert "not those of ranks.parquet" not in capsys.readouterr().err


def test_ranks_with_reasoning_that_counts_are_those_of_the_run(reasoned, facts):
    assert found(facts) == ranks_of(reasoned)
    assert differing(facts, reasoned) == 0
    assert any(one.target.rank != one.target.other_rank for one in facts.users)


def test_without_reasoning_the_run_is_its_trunk(reasoned, trained, facts):
    bare = ranks_of(trained)  # no text of it is well-formed
    for one in facts.users:
        assert one.target_without.rank == bare[one.user_id, one.target.item.item_id]
        assert one.target_without.other_rank == one.target.rank


def test_top_lists(facts):
    for one in facts.users:
        for ranking in (one.top, one.top_without):
            assert [entry.rank for entry in ranking] == list(range(1, 11))
            assert [entry.score for entry in ranking] == sorted((entry.score for entry in ranking), reverse=True)
        target = one.target
        assert (target in one.top) == (target.rank <= 10)
        there = {entry.item.item_id: entry for entry in one.top_without}
        for entry in one.top:
            if entry.item.item_id in there:
                assert there[entry.item.item_id].rank == entry.other_rank
                assert there[entry.item.item_id].other_rank == entry.rank


def test_what_reasoning_says_and_counts(facts):
    kinds = {"malformed": 0, "sections": 0, "free": 0}
    for one in facts.users:
        thought = one.reasoning
        if not thought.well_formed:
            assert (thought.gate, thought.moved, thought.sections) == (None, 0.0, {})
            assert one.target.rank == one.target.other_rank
            kinds["malformed"] += 1
            continue
        assert 0 < thought.gate < 1
        assert thought.moved > 0
        kinds["sections" if thought.sections else "free"] += 1
        assert list(thought.sections) in ([], ["evidence", "preference", "intent"])
        for text in thought.sections.values():
            assert text in thought.text
        line = " | ".join([thought.answer_item.item.title, *thought.answer_item.item.details.split(" · ")])
        assert line == thought.answer
    assert min(kinds.values()) > 2


def test_histories_and_prompts(facts, evil):
    table = pd.read_csv(evil / "toy" / "toy.inter", sep="\t")
    table.columns = [name.split(":")[0] for name in table.columns]
    for one in facts.users:
        own = table[table["user_id"] == one.user_id].sort_values("timestamp")
        assert [step.item.item_id for step in one.history] == own["item_id"].tolist()[:-1]
        assert [step.rating for step in one.history] == own["rating"].tolist()[:-1]
        assert one.target.item.item_id == own["item_id"].iloc[-1]
        assert [step.in_prompt for step in one.history][-3:] == [True] * 3
        assert sum(step.in_prompt for step in one.history) == SHORT["prompt_items"]


# --- the page ---------------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Elements, attributes and texts of a page; closed in the order in which they were opened."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.texts, self.rows = [], set(), [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
        if "td" in self.open:
            self.rows[-1][-1] += data


def test_page_holds_no_element_of_a_title(facts):
    text = page(facts)
    reader = Reader(text)
    assert not {"img", "script", "link", "iframe", "object"} & set(reader.tags)
    assert reader.tags.count("svg") == 2 * sum(one.reasoning.well_formed for one in facts.users)
    assert not [name for name in reader.attributes if name.startswith("on") or name == "style"]
    assert reader.tags.count("style") == 1
    assert "onerror=alert(1)" in "".join(reader.texts)  # it is there, as text
    assert "alert(3)" in "".join(reader.texts)
    assert "סרט ישן" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text


def test_names_are_escaped_and_any_text_fits_into_a_file(facts):
    text = page(dataclasses.replace(facts, dataset="half a pair: \ud83d"))
    assert html.escape("<b>reasoned & sound") in text
    assert "half a pair: \ufffd" in text
    text.encode("utf-8")


def test_policy_allows_the_one_style_sheet(facts):
    import base64
    import hashlib

    text = page(facts)
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search('Content-Security-Policy" content="(.*?)"', text)[1]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_json_holds_the_facts_of_the_page(reasoned, capsys, tmp_path):
    assert main(["explain", str(reasoned), "--user=u7,u2", f"--output={tmp_path / 'page.html'}"]) == 0
    assert main(["explain", str(reasoned), "--user=u7,u2", "--format=json", f"--output={tmp_path / 'f.json'}"]) == 0
    assert "2 users of 30 are in" in capsys.readouterr().out
    facts = json.loads((tmp_path / "f.json").read_text())
    assert [one["user_id"] for one in facts["users"]] == ["u7", "u2"]
    reader = Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    rows = iter([row for row in reader.rows if row])
    shown = lambda text: "".join(c if c.isprintable() else "\ufffd" for c in text)  # noqa: E731
    for one in facts["users"]:
        lists = ((one["top"], one["target"]), (one["top_without"], one["target_without"]))
        for ranking, target in lists:
            for entry in ranking + ([] if any(entry["is_target"] for entry in ranking) else [target]):
                rank, item, score, moved = next(rows)
                assert rank == f"{entry['rank']}"
                assert item.startswith(shown(entry["item"]["title"]))
                assert score == f"{entry['score']:.3f}"
                assert ("target" in item.removeprefix(entry["item"]["title"])) == entry["is_target"]
                steps = abs(entry["rank"] - entry["other_rank"])
                assert re.sub(r"\D", " ", moved).split() == ([str(steps), str(entry["other_rank"])] if steps else [])
        text = "".join(reader.texts)
        for step in one["history"]:
            assert shown(step["item"]["title"]) in text
        assert shown(one["reasoning"]["text"]) in text
        assert shown(one["reasoning"]["answer"]) in text
        if one["reasoning"]["gate"] is not None:
            assert f"{one['reasoning']['gate']:.2f}" in text
            assert f"{one['reasoning']['moved']:.1%}" in text
    assert next(rows, None) is None


# --- other runs, mistakes ---------------------------------------------------------------------------------------------


def test_a_trunk_alone_gets_a_page_without_reasoning(toy, tmp_path, capsys):
    settings = {**SHORT, **TEXT, "stages": ["1a"], "hide_seen": True, "data_path": str(toy)}
    folder = run("RPORec", "toy", overrides={**settings, "run_dir": str(tmp_path / "trunk")}).run_dir
    facts = explain(folder, sample=1000)
    assert found(facts) == ranks_of(folder)
    for one in facts.users:
        assert (one.reasoning, one.target_without, one.top_without) == (None, None, [])
        assert not [entry for entry in one.top if entry.in_history and not entry.is_target]
    assert main(["explain", str(folder), "--sample=3"]) == 0
    text = (folder / "explanation.html").read_text(encoding="utf-8")
    assert "scores of this run use no reasoning" in text
    assert "without reasoning" not in text
    assert Reader(text).tags.count("article") == 3


def test_a_text_head(toy, tmp_path):
    settings = {**SHORT, **TEXT, "stages": ["1a", "1b", "1c"], "rechead": "text", "data_path": str(toy)}
    folder = run("RPORec", "toy", overrides={**settings, "run_dir": str(tmp_path / "text")}).run_dir
    facts = explain(with_texts(folder, tmp_path / "reasoned"), users=["u1", "u2", "u3"])
    gates = [one.reasoning.gate for one in facts.users if one.reasoning.well_formed]
    assert gates
    assert all(0 < gate < 1 for gate in gates)
    assert found(facts).items() <= ranks_of(tmp_path / "reasoned").items()


def test_a_baseline_of_recbole(toy, tmp_path, capsys, monkeypatch):
    settings = {"epochs": 1, "show_progress": False, "data_path": str(toy)}
    folder = run("SASRec", "toy", overrides={**settings, "run_dir": str(tmp_path / "sasrec")}).run_dir
    facts = explain(folder, sample=1000)
    assert found(facts) == ranks_of(folder)
    assert {step.item.title == step.item.item_id for step in facts.users[0].history} == {True}
    monkeypatch.setattr(
        known, "layered_properties", lambda model, dataset, own: TEXT
    )  # as on a data set that RPORec knows
    items = {item.item_id: item for item in items_of(load_run(folder))}
    assert items["i3"] == titles.Item("i3", "Film 3 of the Crime", "Crime Drama · 1983")
    assert items["i1"].title == "item i1"
    folder = run("Pop", "toy", overrides={**settings, "run_dir": str(tmp_path / "pop")}).run_dir
    assert main(["explain", str(folder)]) == 2
    assert "reads no history" in capsys.readouterr().err


def test_a_sample_is_drawn_by_its_seed(reasoned, facts):
    few = [one.user_id for one in explain(reasoned, sample=5, seed=1).users]
    every = [one.user_id for one in facts.users]
    assert few == [every[row] for row in sorted(random.Random(1).sample(range(30), 5))]
    assert few != [one.user_id for one in explain(reasoned, sample=5, seed=2).users]
    assert len(facts.users) == facts.rows == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--user=u1,nobody"], "no row of `nobody`"),
        (["RUN", "--user=u1", "--sample=3"], "Give one of the two"),
        (["RUN", "--user=,"], "No user is asked for"),
        (["RUN", "--sample=0"], "No user is asked for"),
        (["RUN", "--sample=many"], "whole number"),
        (["RUN", "--split=train"], "must be valid or test"),
        (["RUN", "--format=pdf"], "must be html or json"),
        (["RUN", "--usr=1"], "Did you mean `user`"),
        (["RUN", "--output=nowhere/page.html"], "does not exist"),
        ([], "rporec explain RUN"),
        (["nowhere"], "holds no run"),
    ],
)
def test_mistakes(reasoned, capsys, arguments, message):
    assert main(["explain", *(str(reasoned) if one == "RUN" else one for one in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_ranks_that_are_not_the_runs_are_reported(reasoned, tmp_path, capsys):
    folder = shutil.copytree(reasoned, tmp_path / "copy")
    table = pd.read_parquet(folder / "ranks.parquet")
    table.assign(rank=table["rank"] + 1).to_parquet(folder / "ranks.parquet", index=False)
    assert main(["explain", str(folder), "--sample=4"]) == 0
    assert "4 of 4 ranks are not those of ranks.parquet" in capsys.readouterr().err


# --- a browser --------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOOK = """<!doctype html><meta charset="utf-8"><body><script>
const frames = WIDTHS.map(width => {
  const frame = document.createElement("iframe");
  frame.style = `border:0;width:${width}px;height:900px`;
  frame.srcdoc = PAGE;
  document.body.append(frame);
  return frame;
});
window.onload = () => {
  document.title = JSON.stringify(frames.map(frame => {
    const page = frame.contentDocument, all = [...page.querySelectorAll("*")];
    page.querySelectorAll("details").forEach(one => one.open = true);
    const counts = {};
    all.forEach(one => counts[one.localName] = (counts[one.localName] || 0) + 1);
    const outside = all.filter(one => one.getBoundingClientRect().right > frame.clientWidth + 1).map(one => one.outerHTML.slice(0, 80));
    const handlers = all.filter(one => [...one.attributes].some(a => a.name.startsWith("on"))).length;
    const styled = getComputedStyle(page.querySelector(".jump")).display;
    return {width: page.documentElement.scrollWidth, counts, outside, handlers, styled};
  }));
};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
def test_in_a_browser_nothing_runs_and_nothing_sticks_out(facts, tmp_path):
    text = page(facts)
    widths = [1280, 390]
    # Within a script no `<` may stand bare; the frames get the very page.
    look = LOOK.replace("WIDTHS", json.dumps(widths)).replace("PAGE", json.dumps(text).replace("<", "\\u003c"))
    (tmp_path / "look.html").write_text(look, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000"]
    command = [
        CHROMIUM,
        *flags,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        f"file://{tmp_path / 'look.html'}",
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    seen = json.loads(html.unescape(re.search("<title>(.*?)</title>", dom, re.DOTALL)[1]))
    written = Reader(text).tags
    for one, width in zip(seen, widths, strict=True):
        assert one["counts"] == {tag: written.count(tag) for tag in set(written)}
        assert one["handlers"] == 0
        assert one["width"] == width
        assert one["outside"] == []
        assert one["styled"] == "flex"  # the policy lets the style sheet in
