"""The rivals through the entry: each is trained, listed, restored with equal ranks, compared and recommended from; bad settings are one message."""

import copy
import json
import shutil

import pandas as pd
import pytest
import torch

from rporec_recbole import load_run
from rporec_recbole.cli import main
from rporec_recbole.data.clock import CLOCK
from rporec_recbole.data.dataset import TARGETS
from rporec_recbole.errors import RunFolderError
from rporec_recbole.host.bridge import build_model
from rporec_recbole.host.data import build_data
from rporec_recbole.runs.folder import read_results
from rporec_recbole.settings.known import RIVALS
from tests.backbones import folder_of, qwen, word_tokenizer
from tests.toy import toy_config

TEXTS = ["--item_text_fields=[title,genre]", "--text_size=8"]
SMALL = ["--hidden_size=16", "--n_layers=1"]
OWN = {
    "HSTU": [*SMALL, "--negatives=5"],
    "R2ec": [
        TEXTS[0], "--backbone=tiny-nano", "--prompt_items=4", "--max_new_tokens=16", "--stream_passes=1", "--warmup_examples=40",
        "--head_positions=20", "--epoch_steps=1", "--train_batch_size=2", "--group_size=2", "--live_items=5",
    ],
    "TextSASRec": [*SMALL, *TEXTS, "--inner_size=16"],
    "TIGER": [*SMALL, *TEXTS, "--codebook_size=4", "--codebook_levels=2", "--inner_size=16", "--n_heads=2"],
}  # fmt: skip


def settings(toy, model, folder, *more):
    place = ["--dataset=toy", f"--data_path={toy}", f"--run_dir={folder}", "--epochs=2", "--eval_step=1"]
    small = ["--MAX_ITEM_LIST_LENGTH=10", "--show_progress=False"]
    given = {one.partition("=")[0] for one in more}
    usual = [one for one in (*place, *small, *OWN[model]) if one.partition("=")[0] not in given]
    return [f"--model={model}", *usual, *more]


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rivals")
    for model in RIVALS:
        assert main(settings(toy, model, folder / model)) == 0
    return folder


@pytest.mark.parametrize("model", RIVALS)
def test_a_rival_comes_back_with_equal_ranks(runs, model):
    metrics, ranks = read_results(runs / model)
    assert metrics["model"] == model
    again, table = load_run(runs / model).evaluate("test")
    assert again == metrics["test"]
    pd.testing.assert_frame_equal(table.reset_index(drop=True), ranks[ranks["split"] == "test"].reset_index(drop=True))


def test_rivals_are_compared_and_recommend(runs, toy, tmp_path, capsys):
    assert main(["compare", *(str(runs / one) for one in RIVALS), f"--output={tmp_path / 'c'}"]) == 0
    said = capsys.readouterr().out
    assert all(one in said for one in RIVALS)
    new = tmp_path / "new.txt"
    new.write_text("a\ti1 i2 i3\nb\ti4\n")
    for model in RIVALS:
        whole, few = tmp_path / f"{model}.csv", tmp_path / f"{model}-new.csv"
        assert main(["recommend", str(runs / model), "--top_k=3", f"--output={whole}"]) == 0
        assert len(pd.read_csv(whole)) == 30 * 3
        assert main(["recommend", str(runs / model), f"--histories={new}", "--top_k=2", f"--output={few}"]) == 0
        assert len(pd.read_csv(few)) == 2 * 2
    run, past = load_run(runs / "HSTU"), pd.read_csv(toy / "toy/toy.inter", sep="\t").query("`user_id:token` == 'u3'")
    items, times = past["item_id:token"].tolist(), past["timestamp:float"].tolist()
    of_user, timed = run.recommend(users=["u3"]), run.recommend(histories={"u3": items}, times={"u3": times})
    pd.testing.assert_frame_equal(of_user, timed)
    assert not of_user["score"].equals(run.recommend(histories={"u3": items})["score"])
    capsys.readouterr()
    assert main(["models", "--kind=sequential"]) == 0
    said = capsys.readouterr().out
    assert all(one in said for one in RIVALS)


def test_a_run_keeps_what_it_made_of_texts(runs, toy, tmp_path):
    """Neither another encoder nor other texts move a finished run."""
    for model in ("TextSASRec", "TIGER"):
        folder = shutil.copytree(runs / model, tmp_path / model)
        text = (folder / "config.yaml").read_text().replace("text_size: 8", "text_size: 3")
        (folder / "config.yaml").write_text(text)
        assert load_run(folder).evaluate("test")[0] == read_results(runs / model)[0]["test"]


@pytest.mark.parametrize("model", ["HSTU", "R2ec", "TextSASRec"])
def test_scores_read_the_history_alone(runs, model):
    run = load_run(runs / model)
    rows = next(iter(run.loaders["test"]))[0]
    other = copy.deepcopy(rows)
    for name in ("item_id", "timestamp", "rating", CLOCK):
        other.interaction[name] = rows[name].flip(0)
    with torch.no_grad():
        torch.testing.assert_close(run.model.full_sort_predict(other), run.model.full_sort_predict(rows))
        one = run.model.full_sort_predict(rows[:1])  # without the padding of longer ones
        torch.testing.assert_close(one, run.model.full_sort_predict(rows)[:1])
        own = run.model.full_sort_predict(rows).gather(1, rows["item_id"][:, None]).squeeze(1)
        torch.testing.assert_close(run.model.predict(rows), own)


def test_the_clock_is_in_whole_seconds_beside_its_items(toy, tmp_path):
    config = toy_config(toy, "HSTU")
    dataset, train, _, test = build_data(config)
    windows, rows = train.dataset.inter_feat, next(iter(test))[0]
    assert dataset.timeline[CLOCK].dtype == torch.int64
    first = windows["_clock_list"][0][windows[TARGETS][0] > 0]
    assert bool((first.diff() == 1).all())  # the toy's users choose once a second
    length = int(rows["item_length"][0])
    assert int(rows[CLOCK][0] - rows["_clock_list"][0, length - 1]) == 1
    assert build_model(config, train).buckets == 128


def test_without_times_positions_alone(toy, tmp_path, caplog):
    """Plain numbers are an order: they are no clock, and HSTU says so."""
    folder = tmp_path / "toy"
    folder.mkdir()
    head, *lines = (toy / "toy/toy.inter").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    rows = [[*row[:3], str(number)] for number, row in enumerate(rows)]
    (folder / "toy.inter").write_text("\n".join([head, *("\t".join(row) for row in rows)]) + "\n")
    config = toy_config(tmp_path, "HSTU")
    _, train, _, _ = build_data(config)
    assert CLOCK not in train.dataset.timeline
    model = build_model(config, train)
    assert model.buckets == 0
    assert "and not when" in caplog.text
    assert torch.isfinite(model.calculate_loss(next(iter(train))))


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("HSTU", ["--n_heads=3"], "`hidden_size=16` must be a multiple of `n_heads=3`"),
        ("HSTU", ["--temperature=0"], "`temperature=0` must be a number above 0"),
        ("HSTU", ["--negatives=-1"], "`negatives=-1` must be a whole number of at least 0"),
        ("HSTU", ["--time_buckets=-1"], "`time_buckets=-1` must be a whole number of at least 0"),
        ("HSTU", ["--dropout_prob=1"], "`dropout_prob=1` must be a number from 0 up to, but not, 1"),
        ("HSTU", ["--n_head=2"], "Did you mean `n_heads`"),
        ("HSTU", ["--train_neg_sample_args={distribution: uniform, sample_num: 1}"], "has no effect on HSTU"),
        ("HSTU", ["--benchmark_filename=[a,b,c]"], "HSTU splits whole sequences itself"),
        ("R2ec", ["--item_text_fields=None"], "nothing says where they are"),
        ("R2ec", ["--group_size=1"], "`group_size=1` must be a whole number of at least 2"),
        ("R2ec", ["--taught_texts=3"], "`taught_texts=3` must be at most `group_size=2`"),
        ("R2ec", ["--softmax_weight=1.5"], "`softmax_weight=1.5` must be a number from 0 to 1"),
        ("R2ec", ["--backbone=tiny-huge"], "`backbone='tiny-huge'` must be one of tiny-nano"),
        ("R2ec", ["--max_new_tokens=0"], "`max_new_tokens=0` must be a whole number of at least 1"),
        ("R2ec", ["--prompt_style=instruct"], "set `stream_passes` to 0 or `prompt_style` to compact"),
        ("R2ec", ["--prompt_items=11"], "`prompt_items=11` must be at most `MAX_ITEM_LIST_LENGTH=10`"),
        ("R2ec", ["--stream_passes=0", "--head_positions=0", "--epochs=1"], "leave nothing that teaches how to rank"),
        ("R2ec", ["--enable_amp=True"], "has no effect on R2ec"),
        ("R2ec", ["--hidden_size=16"], "`hidden_size` is not a setting of R2ec"),
        ("TextSASRec", ["--items_from=titles"], "`items_from='titles'` must be one of text, ids, both"),
        ("TextSASRec", ["--item_text_fields=title"], "must be a list, title first"),
        ("TextSASRec", ["--item_text_fields=[plot]"], "there is none in ['plot']"),
        ("TextSASRec", ["--item_text_fields=None"], "nothing says where they are"),
        ("TIGER", ["--item_text_fields=[]"], "nothing says where they are"),
        ("TIGER", ["--codebook_size=26"], "`codebook_size=26` must be from 2 to 25, the number of items"),
        ("TIGER", ["--codebook_size=1"], "`codebook_size=1` must be a whole number of at least 2"),
        ("TIGER", ["--beams=5"], "`beams=5` must be 0, all items, or at least 20"),
    ],
)
def test_bad_settings_are_one_message(toy, tmp_path, capsys, model, more, said):
    assert main(settings(toy, model, tmp_path / "run", *more)) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "run/metrics.json").exists()


def test_r2ec_is_the_same_for_the_same_seed_and_other_without_reasoning(runs, toy, tmp_path):
    _, ranks = read_results(runs / "R2ec")
    assert main(settings(toy, "R2ec", tmp_path / "again")) == 0
    pd.testing.assert_frame_equal(read_results(tmp_path / "again")[1], ranks)
    assert main(settings(toy, "R2ec", tmp_path / "bare", "--reasoning=False", "--hide_seen=True")) == 0
    metrics, _ = read_results(tmp_path / "bare")
    assert len(metrics["validations"]) == 1  # nothing is written, so nothing is rewarded
    assert metrics["parameters"] == read_results(runs / "R2ec")[0]["parameters"] > 0
    assert load_run(tmp_path / "bare").evaluate("test")[0] == metrics["test"]


def test_r2ec_refuses_other_texts(runs, toy, tmp_path):
    """It reads them at each evaluation, so its scores would be others without a word."""
    other = shutil.copytree(toy / "toy", tmp_path / "toy")
    items = other / "toy.item"
    items.write_text(items.read_text().replace("Film 7 ", "Movie 7 "))
    with pytest.raises(RunFolderError, match="texts have changed"):
        load_run(runs / "R2ec", data_path=str(tmp_path))


def test_r2ec_with_a_pretrained_model_keeps_its_adapter_alone(toy, tmp_path):
    tokenizer = word_tokenizer()
    base = folder_of(qwen(len(tokenizer), max_position_embeddings=1024), tmp_path / "base", tokenizer)
    given = ["--warmup_examples=0", "--head_positions=0", "--stream_passes=0", "--chat_template=never"]  # RecPO alone
    assert main(settings(toy, "R2ec", tmp_path / "run", f"--backbone={base}", "--hide_seen=True", *given)) == 0
    assert (tmp_path / "run/backbone/adapter_model.safetensors").is_file()
    assert not list((tmp_path / "run/backbone").glob("model*.safetensors"))
    base.rename(tmp_path / "moved")
    again, _ = load_run(tmp_path / "run", backbone=str(tmp_path / "moved")).evaluate("test")
    assert again == read_results(tmp_path / "run")[0]["test"]


def test_ids_alone_need_no_texts(toy, tmp_path):
    assert main(settings(toy, "TextSASRec", tmp_path / "run", "--items_from=ids", "--item_text_fields=[]")) == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())["candidates"] == 25
