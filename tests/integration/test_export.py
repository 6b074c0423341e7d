"""`rporec export` and `rporec index`: scores made again from what they write are the evaluation's."""

import json
import shutil
from importlib.metadata import version

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from rporec_recbole.cli import main
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.model.rechead import distinct
from rporec_recbole.outputs.export import export
from rporec_recbole.runs.finished import hash_of_run, load_run
from rporec_recbole.runs.run import run
from rporec_recbole.runs.scoring import Scorer
from rporec_recbole.serve.retriever import Heard, Retriever
from rporec_recbole.serve.run_index import build_index, load_index
from tests.integration.reasoned import with_texts, without_strength
from tests.toy import SHORT, TEXT


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Name -> folder of a finished run on the toy data set."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    short = {**SHORT, **TEXT, "data_path": str(toy)}
    for name, stages, hide in (("trained", ["1a", "1b", "1c"], False), ("trunk", ["1a"], True)):
        overrides = {**short, "stages": stages, "hide_seen": hide, "run_dir": str(folder / name)}
        made[name] = run("RPORec", "toy", overrides=overrides).run_dir
    made["reasoned"] = with_texts(made["trained"], folder / "reasoned")
    return made


def table(path):
    """A Parquet file; vectors as arrays `[rows, H]`."""
    read = pq.read_table(path)
    found = {}
    for name, column in zip(read.column_names, read.columns, strict=True):
        found[name] = column.to_numpy()
        if hasattr(column.type, "list_size"):
            found[name] = column.combine_chunks().flatten().to_numpy().reshape(-1, column.type.list_size)
    return found


def targets(folder, k=10, split="test"):
    """(user, item) -> rank of every target among the best `k`, as evaluated."""
    ranks = pd.read_parquet(folder / "ranks.parquet").query("split == @split and rank <= @k")
    return dict(zip(zip(ranks["user_id"], ranks["item_id"], strict=True), ranks["rank"], strict=True))


def rows_of(loaded, split="test"):
    """Users, histories and hidden items of a split, as the evaluation has them."""
    scorer = Scorer(loaded)
    model, names = loaded.model, loaded.dataset
    for _, (batch, hidden, _, _) in scorer.batches(split, np.arange(len(scorer.users(split)))):
        hide = None
        if hidden is not None:
            gone = [hidden[1][hidden[0] == row].tolist() for row in range(len(batch))]
            width = max(map(len, gone))
            hide = torch.tensor([one + [0] * (width - len(one)) for one in gone])
        users = names.id2token(names.uid_field, batch[names.uid_field])
        yield users, distinct(batch[model.ITEM_SEQ]), hide


def test_reasoning_that_counts_for_nothing_is_neither_written_nor_exported(runs, tmp_path):
    folder = without_strength(runs["reasoned"], tmp_path / "run")
    assert set(export(folder, tmp_path / "out")) == {"items", "users"}
    assert json.loads((tmp_path / "out" / "schema.json").read_text())["reasoning"] is False
    assert not table(tmp_path / "out" / "users.parquet")["well_formed"].any()
    with pytest.raises(ConfigError, match="use no reasoning"):
        export(folder, tmp_path / "other", ["reasoning"])
    store = CoTStore(folder / "reasoning.sqlite")
    assert len(store) == 0
    store.close()


@pytest.mark.parametrize("name", ["reasoned", "trunk"])
@pytest.mark.parametrize("kind", [None, "exact", "hnsw"])
def test_targets_stand_at_their_ranks(runs, tmp_path, name, kind):
    """From the exported vectors, by the rule of `schema.json`: with all scores, with an exact index, with a graph."""
    reads = name == "reasoned"
    export(runs[name], tmp_path / "vectors", ["items", "users", "answers"] if reads else ["items", "users"])
    users, items = table(tmp_path / "vectors" / "users.parquet"), table(tmp_path / "vectors" / "items.parquet")
    index = None
    if kind is not None:
        build_index(runs[name], kind, {"hnsw_search": 500} if kind == "hnsw" else {}, tmp_path / "index")
        index = load_index(runs[name], tmp_path / "index")
    padded = torch.from_numpy(np.concatenate([np.zeros((1, 16), np.float32), items["vector"]]))
    retriever, place = Retriever(padded, index), {user: row for row, user in enumerate(users["user_id"])}
    loaded, found = load_run(runs[name]), {}
    number = {token: item for item, token in enumerate(items["item_id"], 1)}
    moved = table(tmp_path / "vectors" / "answers.parquet") if reads else {"user_id": [], "item_id": [], "added": []}
    assert len(moved["added"]) > 10 or not reads
    named = {}
    for user, item, added in zip(*(moved[column] for column in ("user_id", "item_id", "added")), strict=True):
        named.setdefault(user, []).append((number[item], float(added)))
    for names, seen, hidden in rows_of(loaded):
        rows = [place[user] for user in names]
        width = max((len(named.get(user, [])) for user in names), default=0) or 1
        pairs = torch.tensor([(named.get(user, []) + [(0, 0.0)] * width)[:width] for user in names])
        heard = Heard(pairs[..., 0].long(), lambda scores, best, pairs=pairs: pairs[..., 1])
        u, offset = (torch.from_numpy(users[column][rows]) for column in ("vector", "history_offset"))
        ids = retriever.top(u, seen, offset, hidden, 10, heard)[1]
        for user, best in zip(names, ids.tolist(), strict=True):
            found |= {(user, items["item_id"][item - 1]): rank for rank, item in enumerate(best, 1) if item}
    if loaded.model.reasoner is not None:
        loaded.model.reasoner.store.close()
    expected = targets(runs[name])
    assert len(expected) > 5
    assert {key: found.get(key) for key in expected} == expected


def test_all_that_a_run_has(runs, tmp_path, capsys):
    folder = tmp_path / "vectors"
    assert main(["export", str(runs["reasoned"]), f"--output={folder}", "--dtype=float16", "--split=valid"]) == 0
    answers = table(folder / "answers.parquet")
    assert (
        f"25 rows of items, 30 rows of users, 30 rows of reasoning, {len(answers['added'])} rows of answers are in"
        in capsys.readouterr().out
    )
    items, users, reasoning = (table(folder / f"{part}.parquet") for part in ("items", "users", "reasoning"))
    assert items["vector"].shape == (25, 16)
    assert items["vector"].dtype == np.float16
    assert set(items["item_id"]) <= {f"i{number}" for number in range(25)}
    assert users["user_id"].tolist() == reasoning["user_id"].tolist()
    assert len(set(users["user_id"])) == 30
    counted = users["well_formed"]
    assert 0 < counted.sum() < 30
    moved = (users["vector"] != users["trunk_vector"]).any(axis=1)
    assert (moved == counted).all()
    assert ((users["gate"] > 0) == counted).all()
    assert (reasoning["well_formed"] == counted).all()
    assert ((reasoning["cot"] != "") == counted).all()
    assert ((reasoning["answer"] != "") == counted).all()
    assert reasoning["cot_vector"].shape == reasoning["answer_vector"].shape == (30, 8)
    np.testing.assert_allclose(np.linalg.norm(reasoning["answer_vector"][counted].astype(float), axis=1), 1, atol=0.01)

    assert set(answers["user_id"]) == set(users["user_id"][counted])  # malformed texts name nothing that counts
    assert len(set(zip(answers["user_id"], answers["item_id"], strict=True))) == len(answers["added"]) > 10

    about = json.loads((folder / "schema.json").read_text())
    assert (about["model"], about["dataset"], about["run"]) == ("RPORec", "toy", "reasoned")
    assert (about["dimension"], about["text_dimension"], about["dtype"], about["split"]) == (16, 8, "float16", "valid")
    assert about["run_hash"] == hash_of_run(runs["reasoned"])
    assert about["versions"]["torch"] == version("torch")  # torch itself adds its build
    for name, file in about["files"].items():
        read = pq.read_table(folder / name)
        assert file["rows"] == len(read)
        assert [column["name"] for column in file["columns"]] == read.column_names
        assert all(column["meaning"] for column in file["columns"])


def test_a_trunk_has_no_reasoning(runs, tmp_path, capsys):
    rows = export(runs["trunk"], tmp_path / "vectors")
    assert rows == {"items": 25, "users": 30}
    users = table(tmp_path / "vectors" / "users.parquet")
    assert (users["vector"] == users["trunk_vector"]).all()
    assert not users["well_formed"].any()
    assert not users["gate"].any()
    assert users["history_offset"].any()
    arguments = ["export", str(runs["trunk"]), f"--output={tmp_path / 'more'}", "--what=reasoning"]
    assert main(arguments) == 2
    assert "use no reasoning" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()


def test_an_older_export_stays_until_the_new_one_is_complete(runs, tmp_path, monkeypatch):
    folder = tmp_path / "vectors"
    folder.mkdir()
    export(runs["trunk"], folder, ["items", "users"])
    before = (folder / "users.parquet").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(RunFolderError, match="No space left on device"):
        export(runs["trunk"], folder)
    monkeypatch.undo()
    assert (folder / "users.parquet").read_bytes() == before
    export(runs["trunk"], folder, ["items"])
    assert sorted(one.name for one in folder.iterdir()) == ["items.parquet", "schema.json"]
    assert [one.name for one in tmp_path.iterdir()] == ["vectors"]


def test_vectors_that_do_not_fit(runs, tmp_path, monkeypatch):
    from rporec_recbole.model.fusedhead import FusedHead

    for value, message in ((1e5, "--dtype=float32"), (float("nan"), "no finite numbers")):
        monkeypatch.setattr(FusedHead, "item_vectors", lambda self, value=value: torch.full((26, 16), value))
        with pytest.raises(RunFolderError, match=message):
            export(runs["trunk"], tmp_path / "vectors", ["items"], dtype="float16")
        assert list(tmp_path.iterdir()) == []


def test_the_hash_names_the_weights(runs, tmp_path):
    copy = shutil.copytree(runs["trunk"], tmp_path / "copy")
    assert hash_of_run(copy) == hash_of_run(runs["trunk"])
    assert hash_of_run(copy) != hash_of_run(runs["trained"])
    content = bytearray((copy / "head.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "head.safetensors").write_bytes(content)
    assert hash_of_run(copy) != hash_of_run(runs["trunk"])
    (copy / "head.safetensors").unlink()
    with pytest.raises(RunFolderError, match="cannot be read"):
        hash_of_run(copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--what=item"], "Did you mean `items`"),
        (["--what="], "must be some of items,users,reasoning"),
        (["--dtype=float64"], "must be float32 or float16"),
        (["--split=train"], "valid or test"),
        (["--output=nowhere/vectors"], "does not exist"),
        (["--output=file"], "is a file"),
        (["--output=mine"], "holds other files than an export, such as `letter.txt`"),
        (["--outputs=x"], "Did you mean `output`"),
        (["one", "two"], "Write `rporec export RUN`"),
    ],
)
def test_mistakes_of_export(runs, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("")
    assert main(["export", str(runs["trunk"]), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "mine"]
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("command", ["export", "index"])
def test_other_models_are_refused(tmp_path, capsys, command):
    (tmp_path / "config.yaml").write_text("model: SASRec\ndataset: toy\n")
    assert main([command, str(tmp_path), f"--output={tmp_path / 'out'}"]) == 2
    assert "a run of SASRec" in capsys.readouterr().err


# --- the index of a run -----------------------------------------------------------------------------------------------


def test_the_index_stands_beside_the_weights(runs, capsys):
    folder = runs["reasoned"]
    assert main(["index", str(folder)]) == 0
    assert f"The exact index of 25 items of dimension 16 is in {folder / 'index'}" in capsys.readouterr().out
    assert load_index(folder).kind == "exact"
    assert main(["index", str(folder), "--kind=hnsw", "--hnsw_neighbours=8"]) == 0
    assert load_index(folder).options["hnsw_neighbours"] == 8
    with pytest.raises(RunFolderError, match="other item vectors"):
        load_index(runs["trunk"], folder / "index")
    with pytest.raises(RunFolderError, match="holds no index"):
        load_index(runs["trunk"])
    shutil.rmtree(folder / "index")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind=hsnw"], "Did you mean `hnsw`"),
        (["--kind=hnsw", "--hnsw_serch=3"], "Did you mean `hnsw_search`"),
        (["--kind=hnsw", "--hnsw_search=wide"], "must be a whole number"),
        (["--kind=ivfpq"], "25 items are too few"),
        (["two", "words"], "Write `rporec index RUN`"),
    ],
)
def test_mistakes_of_index(runs, tmp_path, capsys, options, message):
    folder = tmp_path / "index"
    parts = ["--pq_parts=4"] if options == ["--kind=ivfpq"] else []
    assert main(["index", str(runs["trunk"]), f"--output={folder}", *options, *parts]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()
