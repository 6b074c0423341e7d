"""A working directory in which every command runs as it is written, in seconds: small stand-ins under the names that it uses.

ml-100k and ml-1m are a dozen users, a published language model is a folder with a model of one layer, and the defaults of
`properties/` are short. A run is a folder that is called RUN, a user of the data is called ID, a file is called FILE.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shlex
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
import yaml
from torch.distributed.run import get_args_parser

from rporec_recbole.cli import main
from rporec_recbole.commands import compare
from rporec_recbole.data.files import read_tensors, write_tensors
from rporec_recbole.settings import properties
from tests.backbones import static_encoder
from tests.gguf_file import write_gguf
from tests.toy import SHORT, write_toy
from tests.unit.backbone.test_rendering import PLAIN, STARTS
from tests.written import ROOT

TRAINED = {
    "rporec --model=RPORec --dataset=ml-100k --controls": "RUN",
    "rporec --model=SASRec --dataset=ml-100k --epochs=30": "OTHER_RUN",
}
"""Commands that are run once, and what their run folders are called from then on."""
IMPORTED = "rporec import purchases.csv --items=products.csv --name=shop"
"""Run once too; others train on what it makes."""

_FILMS = {"title": "movie_title", "genre": "class", "year": "release_year"}
_WIDTH = 32
_SHORT_PRESET = {"hidden_size": _WIDTH, "inner_size": 48, "fusion_epochs": 1, "rl_epochs": 1}
_SHORT = {**SHORT, "epochs": 1, "warmup_examples": 32}


def prepare(place: Path) -> Path:
    """Fills a new working directory and runs in it what `TRAINED` names."""
    data = {"ml-100k": _FILMS, "ml-1m": {**_FILMS, "genre": "genre"}, "NAME": {"genre": "..."}}
    for name, columns in data.items():
        _write_data(place / "dataset", name, columns)
    _write_data(place / "DIR", "ml-1m", data["ml-1m"])
    _write_models(place)
    _write_properties(place / "properties")
    shutil.copytree(ROOT / "benchmarks", place / "benchmarks", ignore=shutil.ignore_patterns("results", "__pycache__"))
    (place / "benchmarks" / "results").mkdir()
    for grid in place.glob("benchmarks/*.yaml"):
        grid.write_text(yaml.safe_dump(_first_of(yaml.safe_load(grid.read_text(encoding="utf-8")))), encoding="utf-8")
    _shorten(place / "benchmarks" / "grpo_step.py", steps=1, prompts=2, group=2, tokens=12)
    files = {
        "FILE": "someone\ti1 i2 i3\n",
        "USERS": "ID\n",
        "FILE.yaml": compare.EXAMPLE_FILE,
        "mine.yaml": "seed: 1\n",
        "purchases.csv": "customer,sku,when\n"
        + "".join(f"{row % 12},A-{row * 7 % 24},2024-03-05 {row // 12:02d}:00\n" for row in range(12 * 14)),
        "products.csv": "sku,name,brand\n" + "".join(f"A-{item},Chair {item},Oak & Sons\n" for item in range(24)),
        "my_rewards.py": "import torch\n\ndef fresh(record):\n    return torch.ones(len(record))\n",
    }
    for name, text in files.items():
        (place / name).write_text(text, encoding="utf-8")
    with zipfile.ZipFile(place / "ml-25m.zip", "w") as archive:
        archive.writestr(
            "ml-25m/ratings.csv", "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n1,3,4.0,1112486028\n"
        )
        archive.writestr(
            "ml-25m/movies.csv", 'movieId,title,genres\n2,"Matrix, The (1999)",Action\n3,Heat (1995),Drama\n'
        )
    for command, name in TRAINED.items():
        assert execute(command, place) == 0
        next((place / "saved").glob("*-ml-100k-*")).rename(place / "saved" / name)
    lists = pd.read_parquet(place / "saved" / "OTHER_RUN" / "lists.parquet")  # as another system would bring them
    lists.to_parquet(place / "FILE.parquet")
    lists.to_csv(place / "FILE.csv", index=False)
    _let_answers_count(place / "saved" / "RUN" / "head.safetensors")
    (place / "RUN").symlink_to("saved/RUN")
    assert execute(IMPORTED, place) == 0
    assert execute("rporec index RUN --output=FOLDER", place) == 0
    assert execute("rporec cots write RUN --histories=FILE --output=TEXTS", place) == 0
    _leave_earlier_seeds(place)
    return place


def execute(command: str, place: Path) -> int:
    """Runs a command in a prepared directory, in this process; under a launcher it is the only one that is started.

    Returns:
        the exit status; a script of `python` raises where it does not end well.
    """
    words, alone = shlex.split(command), {}
    if words[0] == "torchrun":
        launched = get_args_parser().parse_args([word.replace("=N", "=1") for word in words[1:]])
        assert launched.no_python
        words, alone = [launched.training_script, *launched.training_script_args], {"WORLD_SIZE": "1", "RANK": "0"}
    own_path = mock.patch.object(sys, "path", list(sys.path))
    with _inside(place), standing_in(place), own_path, mock.patch.dict(os.environ, alone):
        if words[0] == "rporec":
            return main(words[1:])
        _run_script(words[1:])
        return 0


@contextlib.contextmanager
def standing_in(place: Path) -> Iterator[None]:
    """Settings and ml-100k are those of a prepared directory."""
    from recbole.config import Config

    default_parameters = Config._set_default_parameters

    def with_small_data(self: Config) -> None:
        default_parameters(self)
        if self.dataset == "ml-100k" and "recbole" in Path(self.final_config_dict["data_path"]).parts:
            self.final_config_dict["data_path"] = str(place / "dataset" / "ml-100k")

    readers = {properties, *(module for module in list(sys.modules.values()) if "properties_dir" in vars(module))}
    with contextlib.ExitStack() as stack:
        for module in readers:
            stack.enter_context(mock.patch.object(module, "properties_dir", return_value=place / "properties"))
        stack.enter_context(mock.patch.object(Config, "_set_default_parameters", with_small_data))
        yield


def _run_script(words: list[str]) -> None:
    """`python SCRIPT ...`; what it imports from its own folder is its own copy, and is forgotten afterwards."""
    folder = Path(words[0]).resolve().parent
    siblings = {path.stem for path in folder.glob("*.py")}
    kept = {name: sys.modules.pop(name) for name in siblings & sys.modules.keys()}
    try:
        with mock.patch.object(sys, "argv", words), mock.patch.object(sys, "path", [str(folder), *sys.path]):
            runpy.run_path(words[0], run_name="__main__")
    finally:
        for name in siblings & sys.modules.keys():
            del sys.modules[name]
        sys.modules.update(kept)


@contextlib.contextmanager
def _inside(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def _let_answers_count(head: Path) -> None:
    """Commands that read texts want a run that counts them, and a dozen users teach no trust: answers count in full, for nothing."""
    tensors, facts = read_tensors(head, "")
    tensors["head.expert.strength"].fill_(1.0)
    write_tensors(head, tensors, facts)


def _leave_earlier_seeds(place: Path) -> None:
    """What the benchmarks have of two seeds, as if they had been interrupted: the run that is there; one seed is left to do."""
    saved, results = place / "saved", place / "benchmarks" / "results" / "ml-100k" / "reasoning"
    results.mkdir(parents=True)
    for seed in (2021, 2022):
        shutil.copy(saved / "RUN" / "controls.parquet", results / f"default, seed {seed}.parquet")
        for name in ("stage 1", "as it is"):
            shutil.copytree(saved / "RUN", saved / "rl-ablations" / "ml-100k" / f"{name},seed={seed}")
    shutil.copytree(saved / "RUN", saved / "grpo_step" / "tiny")


def _write_data(parent: Path, name: str, columns: dict[str, str]) -> None:
    """The toy data set under another name and with other columns of its items; its first user is called ID."""
    folder = write_toy(parent, name, users=12, items=24) / name
    inter, item = folder / f"{name}.inter", folder / f"{name}.item"
    inter.write_text(re.sub(r"(?m)^u0\t", "ID\t", inter.read_text(encoding="utf-8")), encoding="utf-8")
    head, rest = item.read_text(encoding="utf-8").split("\n", 1)
    for old, new in columns.items():
        head = head.replace(f"\t{old}:", f"\t{new}:")
    item.write_text(f"{head}\n{rest}", encoding="utf-8")
    users = sorted({line.split("\t")[0] for line in inter.read_text(encoding="utf-8").splitlines()[1:]})
    rows = "".join(f"{user}\t30\tM\tother\n" for user in users)
    (folder / f"{name}.user").write_text(
        f"user_id:token\tage:token\tgender:token\toccupation:token\n{rows}", encoding="utf-8"
    )


def _write_models(place: Path) -> None:
    """What the model hubs have, in folders that are called the same; a backbone that soon stops writing."""
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, Qwen3Config, Qwen3ForCausalLM

    from rporec_recbole.backbone.tiny import train_tokenizer
    from rporec_recbole.text.prompts import INSTRUCTIONS

    texts = [*INSTRUCTIONS.values(), "Film 3 of the Drama | Comedy Crime | 1984 | rated 3"] * 3
    tokenizer = train_tokenizer(texts, 500)
    tokenizer.chat_template = PLAIN + STARTS["qwen3"]
    torch.manual_seed(0)
    language = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=None, tie_word_embeddings=False,
        )
    )  # fmt: skip
    with torch.no_grad():  # every hidden state leans to one side, and so to the token that ends a text
        language.model.embed_tokens.weight += 1
        language.lm_head.weight[tokenizer.eos_token_id] = 0.14
    language.save_pretrained(place / "Qwen" / "Qwen3-0.6B")
    tokenizer.save_pretrained(place / "Qwen" / "Qwen3-0.6B")
    write_gguf(place / "FILE.gguf", context=2048)
    words = train_tokenizer(texts, 300)
    words.model_max_length, words.padding_side = 128, "right"
    sentences = BertConfig(
        vocab_size=len(words), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=128, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    BertModel(sentences).save_pretrained(place / "bert")
    words.save_pretrained(place / "bert")
    transformer = models.Transformer(str(place / "bert"))
    encoder = SentenceTransformer(modules=[transformer, models.Pooling(24)], device="cpu")
    encoder.save(str(place / "sentence-transformers" / "all-MiniLM-L6-v2"))
    static_encoder(place / "sentence-transformers" / "static-retrieval-mrl-en-v1", words, _WIDTH)


def _write_properties(folder: Path) -> None:
    """The package's YAML files with short trainings in them."""
    shutil.copytree(ROOT / "properties", folder)
    for path in folder.rglob("*.yaml"):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        short = {**_SHORT, "trials": 2}
        known = short if path.name == "RPORec.yaml" and path.parent.name == "model" else values.keys() & short.keys()
        own = {key: short[key] for key in known} if path.parent.name != "presets" else dict(_SHORT_PRESET)
        own |= {"epochs": 1} if path.name == "overall.yaml" else {}
        path.write_text(yaml.safe_dump({**values, **own}, sort_keys=False), encoding="utf-8")


def _shorten(script: Path, **defaults: int) -> None:
    """Other defaults of a benchmark's options, which are many steps of many long texts."""
    text = script.read_text(encoding="utf-8")
    for option, value in defaults.items():
        text, found = re.subn(rf'("--{option}", type=int, default=)\d+', rf"\g<1>{value}", text)
        assert found == 1, f"{script.name} has no option --{option} with a default"
    script.write_text(text, encoding="utf-8")


def _first_of(grid: dict) -> dict:
    """A grid of a benchmark with its first entry and what all share, but without their stages: those are the run's that is there.

    Where an entry lists models and their candidates, two models have one each.
    """
    own = next(name for name in grid if name != "all")
    entry = {key: value for key, value in (grid[own] or {}).items() if key != "stages"}
    if all(isinstance(model, dict) and "candidates" in model for model in entry.values()) and entry:
        entry = {
            name: {**entry[name], "candidates": entry[name]["candidates"][:1]}
            for name in ("trunk", "Pop")
            if name in entry
        }
    return {"all": {key: value for key, value in grid.get("all", {}).items() if key != "stages"}, own: entry}
