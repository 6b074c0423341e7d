"""Texts as a data set: `rporec cots prompts`, `write --histories` and `import`, and `recommend` and `export` that read them.

The backbone of these runs says what a function of prompt and draw says, so that texts are readable and every writer can write the same.
"""

import json
import shutil
from hashlib import sha256

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rporec_recbole.backbone.model import Backbone
from rporec_recbole.cli import main
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.model.answers import read_guesses
from rporec_recbole.outputs import writing
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from rporec_recbole.text.completions import parse_completion, render_guesses
from tests.integration.reasoned import with_texts
from tests.toy import SHORT, TEXT

USERS = {f"n{user}": [f"i{(3 * user + step) % 25}" for step in range(2 + user % 5)] for user in range(24)}
LINES = [f"Film {item} of the Drama | Drama Comedy | {1980 + item}" for item in range(4, 24, 4)]


def said(prompt, greedy=True):
    """One prompt in four is written for badly at first, half of these ever after."""
    number = int(sha256(prompt.encode()).hexdigest()[:8], 16)
    if number % 4 == 0 and (greedy or number % 8 == 0):
        return f"<think>{number}"
    line, other = LINES[number % len(LINES)], LINES[(number + 1) % len(LINES)]
    tail = render_guesses([(line, -0.5), (other, -1.25)])
    return f"<think>evidence: {prompt.splitlines()[-1]}</think><answer>{line}</answer>{tail}"


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    settings = {**SHORT, **TEXT, "cot_retries": 1, "stages": ["1a", "1b", "1c"], "data_path": str(toy)}
    trained = run("RPORec", "toy", overrides={**settings, "run_dir": str(folder / "trained")}).run_dir
    return with_texts(trained, folder / "run")


@pytest.fixture
def night(finished, tmp_path):
    """A run with an empty store, a file of histories, and a name for the job's folder."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "reasoning.sqlite").unlink()
    lines = (json.dumps({"user": user, "items": items}) for user, items in USERS.items())
    (tmp_path / "h.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """What the backbone is asked for; a prompt that is in `bad` makes it fail."""
    found = Asked()

    def generate(self, prompts, decoding, on_batch=None, desc=""):
        if found.bad.intersection(prompts) or len(found) >= found.end:
            raise ValueError("no words") if found.bad else KeyboardInterrupt
        texts = [said(prompt, decoding.temperature == 0) for prompt in prompts]
        found.extend((prompt, decoding.temperature) for prompt in prompts)
        if on_batch is not None:
            on_batch(list(range(len(prompts))), texts)
        return texts

    monkeypatch.setattr(Backbone, "generate", generate)
    return found


class Asked(list):
    bad: frozenset[str] = frozenset()
    end = 10**9


def rporec(night, *words):
    return main([str(night / word[1:]) if word.startswith("@") else word.replace("=@", f"={night}/") for word in words])


def recommended(night, name, *options):
    assert rporec(night, "recommend", "@run", "--histories=@h.jsonl", f"--output=@{name}", *options) == 0
    return pd.read_parquet(night / name)


def stored(night):
    store = CoTStore(night / "run" / "reasoning.sqlite")
    found = {row.key: (row.prompt, row.text, row.generator, row.decoding) for row in store}
    store.close()
    return found


def written(night, texts=None, **columns):
    """As another program would write them: the prompts with a column more."""
    table = pd.read_parquet(night / "job" / "prompts")
    table["text"] = [said(prompt) for prompt in table["prompt"]] if texts is None else texts
    (night / "job" / "texts").mkdir(exist_ok=True)
    table.assign(**columns).to_parquet(night / "job" / "texts" / "outside.parquet")
    return table


def test_texts_that_come_back_from_shards_rank_as_those_that_the_run_writes_itself(night, asked, monkeypatch, capsys):
    own = recommended(night, "own.parquet")
    texts = stored(night)
    (night / "run" / "reasoning.sqlite").unlink()
    trunk = recommended(night, "trunk.parquet", "--missing_texts=trunk")
    assert "texts are not in the run's store: the trunk ranked without them" in capsys.readouterr().err
    assert not trunk.equals(own)
    assert stored(night) == {}

    arguments = ("@run", "--histories=@h.jsonl", "--output=@job", "--shard_rows=7")
    assert rporec(night, "cots", "prompts", *arguments) == 0
    prompts = pd.concat([pd.read_parquet(one) for one in sorted((night / "job/prompts").iterdir())])
    first = {key for key, row in texts.items() if '"temperature": 0.0' in row[3]}
    assert sorted(prompts["key"]) == sorted(first)
    assert {texts[key][0] for key in prompts["key"]} == set(prompts["prompt"])
    sizes = [len(pd.read_parquet(one)) for one in sorted((night / "job/prompts").iterdir())]
    assert sizes[:-1] == [7] * (len(sizes) - 1)
    loaded = load_run(night / "run").model
    for prompt, tokens in zip(prompts["prompt"], prompts["tokens"], strict=True):
        assert tokens == len(loaded.backbone.prompts.encode([prompt])[0])

    asked.clear()
    assert rporec(night, "cots", "write", *arguments) == 0  # of the prompts that are there
    assert sorted(set(asked)) == sorted(asked)
    assert len(asked) == len(texts) > len(first)
    assert stored(night) == {}
    assert rporec(night, "cots", "import", "@run", "@job") == 0
    assert f"{len(texts)} texts of" in capsys.readouterr().out
    assert stored(night) == texts
    assert rporec(night, "cots", "import", "@run", "@job") == 0
    assert f"0 are new to the run, {len(texts)} it had" in capsys.readouterr().out
    assert stored(night) == texts

    monkeypatch.setattr(Backbone, "generate", lambda *_: pytest.fail("the store lacks a text"))
    pd.testing.assert_frame_equal(recommended(night, "again.parquet"), own, check_exact=True)
    pd.testing.assert_frame_equal(recommended(night, "parts"), own, check_exact=True)
    assert rporec(night, "cots", "prompts", "@run", "--histories=@h.jsonl", "--output=@rest") == 0
    assert "0 prompts of 24 users" in capsys.readouterr().out
    same_scores_from_vectors(night, own)


def same_scores_from_vectors(night, own):
    """A ranker outside makes the scores from the exported vectors of the same histories."""
    assert rporec(night, "export", "@run", "--histories=@h.jsonl", "--output=@vectors") == 0
    users, items, heard = (
        pd.read_parquet(night / "vectors" / f"{name}.parquet") for name in ("users", "items", "answers")
    )
    assert list(users["user_id"]) == list(USERS)
    assert 0 < users["well_formed"].sum() < len(users)
    assert json.loads((night / "vectors" / "schema.json").read_text())["split"] == "histories"
    scores = np.stack(users["vector"]) @ np.stack(items["vector"]).T
    column = {item: place for place, item in enumerate(items["item_id"])}
    row = {user: place for place, user in enumerate(users["user_id"])}
    for user, item, added in heard.itertuples(index=False):
        scores[row[user], column[item]] += added
    assert len(heard)
    found = [scores[row[user], column[item]] for user, item in zip(own["user_id"], own["item_id"], strict=True)]
    np.testing.assert_allclose(found, own["score"], atol=1e-4)  # what was had is hidden, so no offset of the history


def test_a_job_that_was_cut_short_goes_on_and_what_fails_is_set_aside(night, asked, monkeypatch, capsys):
    monkeypatch.setattr(writing, "_PATIENCE", -1)
    arguments = ("cots", "write", "@run", "--histories=@h.jsonl", "--output=@job", "--shard_rows=9", "--batch_rows=4")
    asked.end = 10
    assert rporec(night, *arguments) == 130
    there = set(pd.read_parquet(night / "job" / "texts")["key"])
    assert 0 < len(there) <= len(asked)
    (night / "job" / "texts" / "part-00000-x.parquet.1.writing").write_bytes(b"PAR1 half a file")
    before = len(asked)
    prompts = pd.read_parquet(night / "job" / "prompts")
    rest = sorted(set(prompts["prompt"]) - {prompt for prompt, _ in asked})
    bad = next(prompt for prompt in rest if parse_completion(said(prompt)).well_formed)
    asked.end, asked.bad = 10**9, frozenset([bad])
    assert rporec(night, *arguments) == 0
    assert "1 prompts are set aside with a reason; the first: ValueError: no words" in capsys.readouterr().err
    assert len(set(asked[before:]) & set(asked[:before])) <= 4  # of a batch that had not come to its end
    table = pd.concat(map(pd.read_parquet, (night / "job" / "texts").glob("*.parquet")))
    assert list(table["prompt"][table["text"].isna()]) == [bad]
    asked.bad, before = frozenset(), len(asked)
    assert rporec(night, *arguments) == 0
    assert len(asked) == before
    assert rporec(night, "cots", "import", "@run", "@job") == 0
    assert "1 rows have a reason in the place of a text" in capsys.readouterr().err
    assert rporec(night, *arguments, "--retry=True") == 0
    assert asked[before:] == [(bad, 0.0)]
    assert rporec(night, "cots", "import", "@run", "@job") == 0
    assert "1 are new to the run" in capsys.readouterr().out
    asked.clear()
    recommended(night, "recs.parquet")
    assert asked == []


def test_where_nothing_can_be_written_nothing_is_set_aside(night, asked, capsys):
    rporec(night, "cots", "prompts", "@run", "--histories=@h.jsonl", "--output=@job")
    asked.bad = frozenset(pd.read_parquet(night / "job" / "prompts")["prompt"])
    shutil.rmtree(night / "job")
    arguments = ("cots", "write", "@run", "--histories=@h.jsonl", "--output=@job")
    assert rporec(night, *arguments) == 2
    assert "None of the first" in capsys.readouterr().err
    assert list((night / "job" / "texts").iterdir()) == []
    asked.bad = frozenset()
    assert rporec(night, *arguments) == 0


def test_a_writer_outside_is_asked_again_for_what_came_out_malformed(night, asked, capsys):
    """And its texts without guesses are heard as an answer of unknown probability."""
    rounds = []
    while True:
        assert rporec(night, "cots", "prompts", "@run", "--histories=@h.jsonl", "--output=@job") == 0
        prompts = pd.read_parquet(night / "job" / "prompts")
        if prompts.empty:
            break
        plain = [said(row.prompt, row.draw == 0).split("<guesses>")[0] for row in prompts.itertuples()]
        written(night, plain)
        assert rporec(night, "cots", "import", "@run", "@job", "--writer=a larger model") == 0
        shutil.rmtree(night / "job")
        rounds.append(set(prompts["draw"]))
    assert rounds == [{0}, {1}]
    assert {row[2] for row in stored(night).values()} == {"a larger model"}
    recommended(night, "recs.parquet")
    assert asked == []
    assert rporec(night, "cots", "stats", "@run") == 0
    assert "a larger" in capsys.readouterr().out
    model = load_run(night / "run").model
    text = f"<think>evidence</think><answer>{LINES[0]}</answer>"
    for one, known in ((text, [0.0, 0.0, 0.0, 1.0, 1.0]), ("<think>", [0.0] * 5)):
        heard = read_guesses([parse_completion(one)], model.matcher, model.n_items)
        assert heard.facts[0, 0].tolist() == known
    reasoning = model.encode_completions([parse_completion(text)], torch.tensor([[1, 2]]))
    assert bool(reasoning.well_formed[0])


BAD = {
    "an empty text": (lambda table: table.assign(text=["", *table["text"][1:]]), "1 rows have an empty text"),
    "no text": (lambda table: table.assign(text=[None, " ", *table["text"][2:]]), "2 rows have an empty text"),
    "a long text": (lambda table: table.assign(text=["x" * 10**6, *table["text"][1:]]), "1 texts are longer than"),
    "another key": (lambda table: table.assign(key=["0" * 64, *table["key"][1:]]), "1 keys are not those of their"),
    "no key": (lambda table: table.assign(key=None), "keys are not those of their prompts"),
    "a changed prompt": (lambda table: table.assign(prompt=table["prompt"].str.strip()), "keys are not those of their"),
    "no prompts": (lambda table: table.drop(columns="prompt"), "has no column `prompt`; it has key, tokens"),
    "numbers": (lambda table: table.assign(key=range(len(table))), "keys are not those of their prompts"),
    "two texts": (
        lambda table: pd.concat([table, table[:1].assign(text="<think>a</think><answer>b</answer>")]),
        "1 keys have two different texts; the first: KEY",
    ),
}


@pytest.fixture(scope="module")
def sound(finished, tmp_path_factory):
    """A run with one imported text, its job of prompts, and texts of a writer outside as a table."""
    place = tmp_path_factory.mktemp("sound")
    shutil.copytree(finished, place / "run")
    (place / "run" / "reasoning.sqlite").unlink()
    (place / "h.txt").write_text("".join(f"{user}\t{' '.join(items)}\n" for user, items in USERS.items()))
    assert rporec(place, "cots", "prompts", "@run", "--histories=@h.txt", "--output=@job") == 0
    table = written(place)
    return place, table


def assert_refused(place, capsys, *messages):
    before = stored(place)
    assert rporec(place, "cots", "import", "@run", "@job") == 2
    error = capsys.readouterr().err
    for message in messages:
        assert message in error
    assert "Traceback" not in error
    assert stored(place) == before


@pytest.mark.parametrize("kind", BAD)
def test_rows_that_cannot_be_used_are_counted_and_nothing_is_kept(sound, capsys, kind):
    place, table = sound
    change, message = BAD[kind]
    change(table).to_parquet(place / "job" / "texts" / "outside.parquet")
    assert_refused(place, capsys, message.replace("KEY", table["key"][0]))


def test_files_that_cannot_be_used(sound, capsys):
    place, table = sound
    texts = place / "job" / "texts"
    table.to_parquet(texts / "outside.parquet")
    whole = (texts / "outside.parquet").read_bytes()
    (texts / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    (texts / "words.parquet").write_text("no table at all")
    assert_refused(place, capsys, "2 files cannot be read; the first:", "torn.parquet cannot be read as Parquet")
    for name in ("torn", "words"):
        (texts / f"{name}.parquet").unlink()
    several = table.assign(text=["", *table["text"][1:]], key=[*table["key"][:-1], "0"])
    several.to_parquet(texts / "outside.parquet")
    assert_refused(
        place, capsys, "1 rows have an empty text, and no reason for it; the first: outside.parquet, row 1", "1 keys"
    )
    binary = pa.table({"key": ["k"], "prompt": ["p"], "text": pa.array([b"\xff"], pa.binary()).view(pa.string())})
    pq.write_table(binary, texts / "outside.parquet")
    assert_refused(place, capsys, "no UTF-8")
    manifest = place / "job" / "manifest.json"
    own = manifest.read_text()
    for text, message in (
        (own.replace('"writer": "', '"writer": "0'), "belongs to another run"),
        (own.replace('"format": 1', '"format": 9'), "has the format 9"),
        ("{", "cannot be read"),
    ):
        manifest.write_text(text)
        assert_refused(place, capsys, message)
    manifest.write_text(own)
    (texts / "outside.parquet").unlink()
    assert_refused(place, capsys, "holds no file named .parquet")
    table.to_parquet(texts / "outside.parquet")
    assert rporec(place, "cots", "import", "@run", "@job/texts/*.parquet") == 0  # the rows alone say whose they are
    assert len(stored(place)) == len(table)
    table.assign(text="<think>a</think><answer>b</answer>").to_parquet(texts / "outside.parquet")
    assert_refused(place, capsys, f"{len(table)} keys have two different texts")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prompts", "@run"), "needs histories"),
        (("prompts", "@run", "--histories=@no.txt"), "no.txt"),
        (("prompts", "@run", "--histories=@h.txt", "--split=test"), "`--split` means nothing to `cots prompts`"),
        (("prompts", "@run", "--histories=@h.txt", "--output=@job"), "holds texts already"),
        (("prompts", "@run", "--histories=@h.txt", "--output=@run"), "holds other files, such as"),
        (("prompts", "@run", "--histories=@h.txt", "--output=@no/job"), "does not exist"),
        (("prompts", "@run", "--histories=@h.txt", "--shard_rows=0"), "at least 1"),
        (("prompts", "@run", "@job", "--histories=@h.txt"), "takes no word"),
        (("write", "@run", "--histories=@h.txt", "--split=test"), "`cots write` with --histories"),
        (("write", "@run", "--output=@job"), "`--output` means nothing to `cots write` without --histories"),
        (("write", "@run", "--histories=@other.txt", "--output=@job"), "holds prompts of other histories"),
        (("import", "@run"), "needs the folder of the texts"),
        (("import", "@run", "@nowhere"), "nowhere"),
        (("import", "@run", "@job", "--writer="), "is empty"),
        (("stats", "@run", "--backbone=x"), "`--backbone` means nothing to `cots stats`"),
    ],
)
def test_mistakes(sound, capsys, words, message):
    place, table = sound
    table.to_parquet(place / "job" / "texts" / "outside.parquet")
    (place / "other.txt").write_text("someone\ti1 i2\n")
    before = sorted(place.rglob("*"))
    assert rporec(place, "cots", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert sorted(place.rglob("*")) == before


def test_a_run_that_reads_no_texts(finished, tmp_path, capsys):
    from tests.integration.reasoned import without_strength

    without_strength(finished, tmp_path / "run")
    (tmp_path / "h.txt").write_text("a\ti1\n")
    assert rporec(tmp_path, "cots", "prompts", "@run", "--histories=@h.txt", "--output=@job") == 2
    assert "use no reasoning, so there are no texts to write" in capsys.readouterr().err
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [("@full", "holds other files than parts of a table"), ("@h.txt/x", "does not exist"), ("@recs.xlsx", "no suffix")],
)
def test_folders_that_recommendations_cannot_be_written_to(finished, tmp_path, capsys, output, message):
    (tmp_path / "h.txt").write_text("a\ti1\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    assert main(["recommend", str(finished), f"--output={tmp_path / output[1:]}"]) == 2
    assert message in capsys.readouterr().err
