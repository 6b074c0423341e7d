"""Every way to give data, for general models, sequential ones and RPORec: what is read and how it is split, against plain pandas.

The rows hold what real logs hold: any order, equal times, times within one step of single precision, the same item twice in a row,
after a while, and at the same second.
"""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from rporec_recbole.cli import main
from rporec_recbole.data.dataset import TARGETS
from rporec_recbole.host.bridge import build_config
from rporec_recbole.host.data import build_data

PARTS = ["train", "valid", "test"]
ORDERS = {
    "last items": ({"LS": "valid_and_test"}, "TO", "user"),
    "last share of each user": ({"RS": [0.6, 0.2, 0.2]}, "TO", "user"),
    "last share of all": ({"RS": [0.6, 0.2, 0.2]}, "TO", None),
    "any items": ({"LS": "valid_and_test"}, "RO", "user"),
    "any share of each user": ({"RS": [0.6, 0.2, 0.2]}, "RO", "user"),
    "any share of all": ({"RS": [0.6, 0.2, 0.2]}, "RO", None),
}
BY_TIME = [name for name, (_, order, _) in ORDERS.items() if order == "TO"]
FILTERS = {
    "all rows": {},
    "five of each": {"user_inter_num_interval": "[5,inf)", "item_inter_num_interval": "[4,inf)"},
    "good ratings": {"val_interval": {"rating": "[3,inf)"}},
    "first of equal": {"rm_dup_inter": "first"},
    "last of equal": {"rm_dup_inter": "last"},
    "everything": {
        "rm_dup_inter": "last", "val_interval": {"rating": "[2,inf)"},
        "user_inter_num_interval": "[3,inf)", "item_inter_num_interval": "[2,inf)",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(3)
    rows = []
    for user in range(12):
        now = 1_600_000_000 + 40 * user
        for _ in range(int(rng.integers(4, 12))):
            now += int(rng.choice([0, 1, 7, 30, 100_000], p=[0.2, 0.2, 0.2, 0.2, 0.2]))
            rows.append((f"u{user}", f"i{int(rng.integers(9))}", int(rng.integers(1, 6)), now))
    rows += [("u0", item, 5, 1_700_000_000 + second) for item, second in [("a", 0), ("b", 1), ("a", 2), ("c", 2)]]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    table = table.iloc[rng.permutation(len(table))].reset_index(drop=True)
    parent = tmp_path_factory.mktemp("ways")
    write(parent / "odd", "odd.inter", table)
    # A split of one's own that no rule could find: rows are dealt out.
    part = rng.choice(3, size=len(table), p=[0.6, 0.2, 0.2])
    for number, name in enumerate(PARTS):
        write(parent / "odd", f"odd.{name}.inter", table[part == number])
    return parent


def write(folder, name, table):
    folder.mkdir(exist_ok=True)
    kinds = {
        "user_id": "token",
        "item_id": "token",
        "rating": "float",
        "timestamp": "float",
        "item_id_list": "token_seq",
    }
    table.rename(columns={one: f"{one}:{kinds[one]}" for one in table}).to_csv(folder / name, sep="\t", index=False)


def rows_of(folder, name="odd.inter"):
    table = pd.read_csv(folder / "odd" / name, sep="\t")
    return table.rename(columns=lambda column: column.split(":")[0])


def config_of(folder, model, order="last items", **overrides):
    split, by, group = ORDERS[order]
    settings = {
        "data_path": str(folder), "topk": [2], "valid_metric": "NDCG@2", "MAX_ITEM_LIST_LENGTH": 4, "seed": 7, "normalize_all": False,
        "eval_args": {"split": split, "order": by, "group_by": group, "mode": "full"},
        "user_inter_num_interval": None, "item_inter_num_interval": None,
        **({"ids_only": True} if model == "RPORec" else {}),
    }  # fmt: skip
    return build_config(model, "odd", overrides=settings | overrides)


# --- plain pandas -----------------------------------------------------------------------------------------------------


def filtered(table, given):
    keep = given.get("rm_dup_inter")
    if keep:
        kept = table.sort_values("timestamp", kind="stable").drop_duplicates(["user_id", "item_id"], keep=keep)
        table = table.loc[sorted(kept.index)]
    for column, interval in given.get("val_interval", {}).items():
        table = table[table[column] >= int(interval[1])]
    least = {key: int(given.get(f"{key}_inter_num_interval", "[0,inf)")[1]) for key in ("user", "item")}
    while True:
        counts = {key: table.groupby(f"{key}_id")["rating"].transform("size") for key in least}
        stay = (counts["user"] >= least["user"]) & (counts["item"] >= least["item"])
        if stay.all():
            return table.reset_index(drop=True)
        table = table[stay]


def counts_of(size):
    """RecBole's rounding: validation and test get what is whole, at least one row while training keeps one."""
    valid = test = int(0.2 * size)
    train = size - valid - test
    for part in ("test", "valid"):
        if train > 1 and 0 < 0.2 * size < 1:
            train, valid, test = train - 1, valid + (part == "valid"), test + (part == "test")
    return train, valid, test


def cut(table, split, group):
    """Train, valid and test of rows that stand in order."""
    parts = ([], [], [])
    for rows in [table.index] if group is None else table.groupby("user_id", sort=False).groups.values():
        size = len(rows)
        left = min(2, size - 1)
        sizes = (size - left, left == 2, left >= 1) if "LS" in split else counts_of(size)
        for part, start, stop in zip(parts, np.cumsum([0, *sizes]), np.cumsum(sizes), strict=False):
            part.extend(rows[start:stop])
    return [table.loc[part] for part in parts]


def with_histories(table):
    """One row for each interaction but a user's first, users by their first row, with all that stands before."""
    first = {user: place for place, user in reversed(list(enumerate(table["user_id"])))}
    table = table.assign(place=table["user_id"].map(first))
    table = table.sort_values(["place", "timestamp"], kind="stable", ignore_index=True)
    past = [
        table["item_id"][(table["user_id"] == user) & (table.index < row)].tolist()
        for row, user in table["user_id"].items()
    ]
    return table.assign(past=past)[[bool(one) for one in past]].reset_index(drop=True)


def expected(table, order, sequential):
    split, by, group = ORDERS[order]
    if sequential:
        table = with_histories(table)
    if by == "RO":
        torch.manual_seed(7)
        table = table.iloc[torch.randperm(len(table)).numpy()].reset_index(drop=True)
    else:
        table = table.sort_values("timestamp", kind="stable", ignore_index=True)
    return cut(table, split, group)


# --- what a run sees --------------------------------------------------------------------------------------------------


def tokens(dataset, field, ids):
    return dataset.id2token(field, ids.numpy()).tolist()


def pairs(dataset, users, items):
    return list(zip(tokens(dataset, "user_id", users), tokens(dataset, "item_id", items), strict=True))


def seen_rows(loader):
    """(user, item) of each row of a split; with histories where the model reads some."""
    dataset, rows = loader.dataset, loader.dataset.inter_feat
    if TARGETS in rows:
        users = dataset.timeline["user_id"][torch.from_numpy(dataset.train_ends)]
        return pairs(dataset, users, dataset.train_targets())
    found = pairs(dataset, rows["user_id"], rows["item_id"])
    if "item_id_list" not in rows:
        return found
    lists = tokens(dataset, "item_id", rows["item_id_list"])
    lengths = rows["item_length"].tolist()
    return [(*one, tuple(past[:length])) for one, past, length in zip(found, lists, lengths, strict=True)]


def told(table, histories):
    rows = [tuple(row) for row in table[["user_id", "item_id"]].to_numpy()]
    return [(*row, tuple(past[-4:])) for row, past in zip(rows, table["past"], strict=True)] if histories else rows


def hidden_rows(loader):
    """(user, targets, hidden items) of each evaluated list."""
    found, dataset = [], loader.dataset
    for batch, hidden, rows, targets in loader:
        for number, user in enumerate(tokens(dataset, "user_id", batch["user_id"])):
            own = [tokens(dataset, "item_id", ids[places == number]) for places, ids in ((rows, targets), hidden)]
            found.append((user, *(tuple(sorted(one)) for one in own)))
    return found


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "order", "given"),
    [("Pop", order, given) for order in ORDERS for given in FILTERS]
    + [("SASRec", order, given) for order in BY_TIME for given in FILTERS]
    + [("RPORec", order, given) for order in BY_TIME for given in ("all rows", "everything")],
)
def test_rows_of_every_split(folder, model, order, given):
    sequential = model != "Pop"
    table = filtered(rows_of(folder), FILTERS[given])
    dataset, *loaders = build_data(config_of(folder, model, order, **FILTERS[given]))
    for loader, part in zip(loaders, expected(table, order, sequential), strict=True):
        histories = sequential and not (model == "RPORec" and loader is loaders[0])
        assert Counter(seen_rows(loader)) == Counter(told(part, histories))
    evaluated = pd.concat(expected(table, order, sequential)[1:])
    for field in ("user_id", "item_id"):
        counts = Counter(table[field]) - Counter(evaluated[field])
        assert dict(zip(dataset.field2id_token[field], dataset.training_counts[field], strict=True)) == {
            "[PAD]": 0, **{token: counts.get(token, 0) for token in table[field].unique()}
        }  # fmt: skip


@pytest.mark.parametrize("order", BY_TIME)
@pytest.mark.parametrize("model", ["Pop", "SASRec", "RPORec"])
def test_what_hide_seen_hides(folder, model, order):
    _, _, *loaders = build_data(config_of(folder, model, order, hide_seen=True))
    parts = expected(rows_of(folder), order, model != "Pop")
    for number, loader in enumerate(loaders, start=1):
        part, wanted = parts[number], []
        if model == "Pop":
            before = pd.concat(parts[:number])
            for user, own in part.groupby("user_id"):
                targets = set(own["item_id"])
                past = set(before["item_id"][before["user_id"] == user]) - targets
                wanted.append((user, tuple(sorted(targets)), tuple(sorted(past))))
        else:
            for user, item, past in zip(part["user_id"], part["item_id"], part["past"], strict=True):
                wanted.append((user, (item,), tuple(sorted(set(past) - {item}))))
        assert sorted(hidden_rows(loader)) == sorted(wanted)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("model", ["Pop", "BPR"])
def test_files_of_a_users_own_split_stay_apart(folder, model, order):
    dataset, *loaders = build_data(config_of(folder, model, order, benchmark_filename=PARTS))
    tables = [rows_of(folder, f"odd.{name}.inter") for name in PARTS]
    for loader, table in zip(loaders, tables, strict=True):
        assert Counter(seen_rows(loader)) == Counter(told(table, False))
    for field in ("user_id", "item_id"):
        counts = Counter(tables[0][field])
        found = dict(zip(dataset.field2id_token[field], dataset.training_counts[field], strict=True))
        assert {token: count for token, count in found.items() if count} == counts


@pytest.mark.parametrize(
    ("model", "hide", "legacy"), [("SASRec", False, False), ("SASRec", True, True), ("GRU4Rec", True, False)]
)
def test_files_of_histories_stay_apart(folder, tmp_path, model, hide, legacy):
    table = with_histories(rows_of(folder).sort_values("timestamp", kind="stable", ignore_index=True))
    table = table.assign(item_id_list=table["past"].map(" ".join))
    table = table.iloc[np.random.default_rng(0).permutation(len(table))]
    split = dict(zip(PARTS, np.array_split(np.arange(len(table)), 3), strict=True))
    for name, rows in split.items():
        write(
            tmp_path / "odd", f"odd.{name}.inter", table.iloc[rows][["user_id", "item_id_list", "timestamp", "item_id"]]
        )
    load = {"inter": ["user_id", "item_id_list", "timestamp", "item_id"]}
    _, *loaders = build_data(
        config_of(
            tmp_path, model, benchmark_filename=PARTS, load_col=load, alias_of_item_id=["item_id_list"], hide_seen=hide,
            legacy_time_order=legacy,
        )
    )  # fmt: skip
    for loader, rows in zip(loaders, split.values(), strict=True):
        assert seen_rows(loader) == told(table.iloc[rows], True) or loader is loaders[0]
        assert Counter(seen_rows(loader)) == Counter(told(table.iloc[rows], True))


def test_removing_duplicates_from_data_without_any_changes_nothing(folder, tmp_path):
    table = rows_of(folder).drop_duplicates(["user_id", "item_id"])
    write(tmp_path / "odd", "odd.inter", table)
    for order in ORDERS:
        seen = [
            [list(seen_rows(loader)) for loader in build_data(config_of(tmp_path, "Pop", order, rm_dup_inter=keep))[1:]]
            for keep in (None, "first", "last")
        ]
        assert seen[0] == seen[1] == seen[2]


@pytest.fixture
def mini(tmp_path):
    """Both users' last item is w in the test file, and z of b is younger than w of a."""
    rows = {"train": "a x 1, a y 2, b y 101, b v 102", "valid": "a z 3, b z 103", "test": "a w 4, b w 104"}
    for name, text in rows.items():
        table = pd.DataFrame([row.split() for row in text.split(", ")], columns=["user_id", "item_id", "timestamp"])
        write(tmp_path / "mini", f"mini.{name}.inter", table)
    return tmp_path


def entry(mini, model, *more):
    given = [
        f"--model={model}",
        "--dataset=mini",
        f"--data_path={mini}",
        f"--run_dir={mini / 'run'}",
        "--epochs=1",
        "--topk=[2]",
    ]
    return main(
        [*given, "--valid_metric=NDCG@2", "--show_progress=False", "--benchmark_filename=[train, valid, test]", *more]
    )


@pytest.mark.parametrize("model", ["Pop", "BPR"])
def test_own_test_rows_are_what_a_run_ranks(mini, model):
    assert entry(mini, model) == 0
    ranks = pd.read_parquet(mini / "run/ranks.parquet")
    found = {split: set(zip(rows["user_id"], rows["item_id"], strict=True)) for split, rows in ranks.groupby("split")}
    assert found == {"valid": {("a", "z"), ("b", "z")}, "test": {("a", "w"), ("b", "w")}}
    assert ranks.query("item_id == 'w'")["item_popularity"].eq(0).all()  # no test row is trained on


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("RPORec", [], "RPORec splits whole sequences itself"),
        ("SASRec", [], "mini.train.inter has ['user_id', 'item_id', 'timestamp']. Load it and say what it holds"),
        ("Pop", ["--benchmark_filename=[train, test]"], "must be the middle parts of three file names"),
        ("Pop", ["--benchmark_filename=[train, dev, test]"], "mini.dev.inter does not exist"),
        ("Pop", ["--rm_dup_inter=first"], "`rm_dup_inter='first'` would take rows away"),
        ("Pop", ["--val_interval={'timestamp': '[3,inf)'}"], "would take rows away"),
        ("Pop", ["--rm_dup_inter=False"], "`rm_dup_inter=False` must be first or last"),
        ("Pop", ["--field_separator=::"], "`field_separator='::'` must be one character"),
    ],
)
def test_what_cannot_be_done_with_files_of_ones_own_is_one_message(mini, capsys, model, more, message):
    options = {one.partition("=")[0]: one for one in ["--benchmark_filename=[train, valid, test]", *more]}
    given = [f"--model={model}", "--dataset=mini", f"--data_path={mini}", f"--run_dir={mini / 'run'}", "--topk=[2]"]
    assert main([*given, "--valid_metric=NDCG@2", *options.values()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (mini / "run").exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("user_id:token", "user:token", "['user_id'] is needed"),
        ("timestamp:float", "time:float", "One data set has one set of columns"),
        ("a\tz\t3", "a\tz", "line 2 has 2 fields instead of 3"),
        ("a\tz\t3", "\tz\t3", "`user_id` is empty"),
        ("a\tz\t3", "a\tz\r\t\xff", "line 2: `timestamp` is"),
    ],
)
def test_each_file_of_ones_own_is_checked(mini, capsys, before, after, message):
    path = mini / "mini/mini.valid.inter"
    path.write_text(path.read_text().replace(before, after), newline="\n", encoding="utf-8")
    assert entry(mini, "Pop") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "mini.valid.inter" in said
