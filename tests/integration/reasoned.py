"""A finished toy run whose backbone has something to say: short training leaves `tiny` without a single well-formed text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from rporec_recbole.cot.compose import compose_completion
from rporec_recbole.cot.store import completion_key
from rporec_recbole.runs.finished import load_run


def with_texts(source: Path, folder: Path) -> Path:
    """A copy of a run whose store holds composed texts, some malformed, and whose fusion lets them count; ranks made again."""
    shutil.copytree(source, folder)
    (folder / "reasoning.sqlite").unlink()
    weights = load_file(folder / "head.safetensors")
    generator = torch.Generator().manual_seed(0)
    last = "head.fusion.write.weight" if "head.fusion.write.weight" in weights else "head.fusion.project.weight"
    for name in (last, "head.fusion.gate.weight"):
        weights[name] = 0.2 * torch.randn(weights[name].shape, generator=generator)
    if "head.expert.trust.weight" in weights:
        weights["head.expert.trust.weight"] = torch.randn(
            weights["head.expert.trust.weight"].shape, generator=generator
        )
        weights["head.expert.strength"] = torch.tensor(1.0)
    weights["head.strength"] = torch.tensor(1.0)
    save_file(weights, folder / "head.safetensors")
    run = load_run(folder)
    model, tables = run.model, []
    writer, decoding = model.reasoner.generator.fingerprint, model.evaluation_decoding
    for split in ("valid", "test"):
        rows, texts = run.loaders[split].dataset.inter_feat, {}
        for number, (history, rated) in enumerate(
            zip(rows[model.ITEM_SEQ].tolist(), model.ratings_of(rows), strict=True)
        ):
            prompt = model.reasoner.template.prompt(history, rated)
            shown = model.reasoner.template.shown(history, rated)
            text = compose_completion(model.catalogue, shown, 1 + number % (len(model.catalogue) - 1))
            if number % 5 == 0:
                text = text.replace("</think>", "")
            if number % 5 == 1:
                text = text.replace("evidence:", "<img src=x onerror=alert(1)>\u202e\x07 because of")
            texts[completion_key(prompt, writer, decoding)] = (prompt, text)
        model.reasoner.store.put(texts, writer, decoding)
        tables.append(run.evaluate(split)[1])
    model.reasoner.store.close()
    pd.concat(tables, ignore_index=True).to_parquet(folder / "ranks.parquet", index=False)
    return folder


def without_strength(source: Path, folder: Path) -> Path:
    """A copy of a run as if its validation had chosen that reasoning counts for nothing; its store is empty."""
    shutil.copytree(source, folder)
    (folder / "reasoning.sqlite").unlink()
    weights = load_file(folder / "head.safetensors")
    weights["head.strength"] = torch.tensor(0.0)
    if "head.expert.strength" in weights:
        weights["head.expert.strength"] = torch.tensor(0.0)
    save_file(weights, folder / "head.safetensors")
    return folder
