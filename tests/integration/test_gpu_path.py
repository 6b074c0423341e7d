"""The GPU's path, as far as it can be followed without one: each step of the pipeline runs on a pretended GPU (`tests/pretend_gpu.py`),
where a tensor on the wrong device raises, and gives what it gives on the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from rporec_recbole.data.clock import UNKNOWN
from rporec_recbole.model.encoder import LSAEncoder
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.history_text import HistoryText
from rporec_recbole.model.losses import negatives_loss, recommendation_loss, sampled_recommendation_loss
from rporec_recbole.model.rechead import Reasoning, distinct
from rporec_recbole.model.texthead import TextHead
from rporec_recbole.outputs.export import export
from rporec_recbole.outputs.recommend import recommend
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from rporec_recbole.serve.retriever import Retriever
from rporec_recbole.serve.run_index import build_index
from tests.integration.reasoned import with_texts
from tests.pretend_gpu import CPU, CUDA, DeviceError, gpu, on, pretend_gpu
from tests.toy import SHORT, TEXT, write_toy

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and nothing need be pretended")


# --- a whole run, and what is made of it ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reasoned(tmp_path_factory):
    """A run that a GPU trained, whose texts count."""
    folder = tmp_path_factory.mktemp("gpu")
    parent = write_toy(folder, users=14)
    short = {
        **SHORT,
        **TEXT,
        "data_path": str(parent),
        "warmup_examples": 8,
        "warmup_batch_size": 8,
        "stream_passes": 1,
    }
    short |= {"fusion_reads_history": True, "fusion_strengths": [0, 1], "stages": ["1a", "1b", "1c"]}
    with gpu():
        done = run("RPORec", "toy", overrides={**short, "run_dir": str(folder / "run")})
        return with_texts(done.run_dir, folder / "reasoned")


def test_a_run_ranks_on_the_processor_as_on_the_gpu(reasoned):
    loaded = load_run(reasoned)
    assert loaded.config["device"] == CPU
    kept = pd.read_parquet(reasoned / "ranks.parquet")
    for split in ("valid", "test"):
        table = loaded.evaluate(split)[1]
        own = kept[kept["split"] == split].reset_index(drop=True)
        pd.testing.assert_frame_equal(table.reset_index(drop=True)[["user_id", "rank"]], own[["user_id", "rank"]])
    loaded.model.reasoner.store.close()


def test_a_loaded_run_lies_on_the_gpu(reasoned):
    with gpu():
        loaded = load_run(reasoned)
        loaded.model.reasoner.store.close()
        weights = [*loaded.model.state_dict().values(), *loaded.model.backbone.model.state_dict().values()]
        assert {weight.device for weight in weights} == {CUDA}


def test_vectors_index_and_recommendations_are_those_of_the_processor(reasoned, tmp_path):
    found = {}
    for device in (CPU, CUDA):
        folder = tmp_path / device.type
        with on(device):
            export(reasoned, folder)
            build_index(reasoned, output=tmp_path / f"index {device.type}")
            recommend(reasoned, tmp_path / f"{device.type}.parquet")
        found[device] = [pq.read_table(file).to_pandas() for file in sorted(folder.glob("*.parquet"))]
        found[device].append(pd.read_parquet(tmp_path / f"{device.type}.parquet"))
    for one, other in zip(found[CPU], found[CUDA], strict=True):
        assert list(one.columns) == list(other.columns)
        for name in one.columns:
            same(one[name].to_list(), other[name].to_list())


def same(one: list[Any], other: list[Any]) -> None:
    """Texts are equal, numbers up to rounding: rows are read in packs of another size."""
    if one and isinstance(one[0], (np.ndarray, float)):
        np.testing.assert_allclose(np.stack(one), np.stack(other), rtol=1e-4, atol=1e-5)
    else:
        assert one == other


# --- the head ---------------------------------------------------------------------------------------------------------------


def small_head() -> FusedHead:
    torch.manual_seed(0)
    return FusedHead(
        12, torch.randn(12, 4), hidden_size=8, layers=2, heads=2, inner_size=16, dropout=0.0, initializer_range=0.3,
        history_bias=True, id_dropout=0.2, time_buckets=8,
    )  # fmt: skip


@pytest.mark.parametrize("loss", [recommendation_loss, sampled_recommendation_loss, negatives_loss])
def test_losses_and_their_gradients(loss):
    found = {}
    for device in (CPU, CUDA):
        with on(device):
            head = small_head().to(device)
            histories = torch.tensor([[1, 2, 2, 5], [7, 3, 9, 4]], device=device)
            items = head.item_vectors()
            clock = torch.tensor([[0, 3, 9, 9000], [UNKNOWN] * 4], device=device)
            states = head.states(histories, items, clock).flatten(0, 1)
            targets = torch.tensor([2, 2, 5, 6, 3, 9, 4, 8], device=device)
            rows, steps = torch.arange(8, device=device) // 4, torch.arange(8, device=device) % 4
            budget = 24 if loss is recommendation_loss else 3
            value = loss(
                states,
                items,
                targets,
                distinct(histories),
                rows,
                steps,
                head.history_offset(states),
                budget,
                head.learned,
            )
            value.backward()
            assert value.device == device
            found[device] = [value, *(one.grad for one in head.parameters() if one.grad is not None)]
    for one, other in zip(found[CPU], found[CUDA], strict=True):
        torch.testing.assert_close(one.detach(), other.detach().numbers)


def test_the_text_head_reads_histories_and_texts():
    lines = ["", *(f"Film {number} | Drama" for number in range(1, 12))]
    encoder = LSAEncoder.fit(lines[1:], 6, 0)
    found = {}
    for device in (CPU, CUDA):
        with on(device):
            torch.manual_seed(0)
            head = TextHead(
                torch.from_numpy(encoder.encode(lines)), HistoryText(encoder, lines, 3), hidden_size=6, layers=1, heads=2,
                inner_size=12, dropout=0.0, initializer_range=0.3, history_bias=True,
            ).to(device).eval()  # fmt: skip
            histories = torch.tensor([[1, 2, 2], [7, 3, 0]], device=device)
            texts = torch.from_numpy(encoder.encode(["Film 3", "Drama"])).to(device)
            reasoning = Reasoning(torch.cat([texts, texts], dim=1), torch.tensor([True, False], device=device))
            found[device] = [head.scores(histories, reasoning), head.states(histories, head.item_vectors())]
            assert all(one.device == device for one in found[device])
    for one, other in zip(found[CPU], found[CUDA], strict=True):
        torch.testing.assert_close(one, other.numbers)


def test_exact_and_indexed_search(reasoned):
    found = {}
    index, _ = build_index(reasoned, output=reasoned.parent / "index")
    items = load_run(reasoned).model.head.item_vectors().detach()
    for device in (CPU, CUDA):
        with on(device):
            users, seen = items[3:6].to(device), torch.tensor([[1, 2], [3, 0], [0, 0]], device=device)
            offset, hidden = torch.ones(3, device=device), torch.tensor([[4], [0], [5]], device=device)
            found[device] = [
                Retriever(items.to(device), one).top(users, seen, offset, hidden, 5)[1].tolist()
                for one in (None, index)
            ]
    assert found[CPU] == found[CUDA]


# --- the pretence itself ------------------------------------------------------------------------------------------------------


def test_what_cuda_refuses_is_refused():
    with pretend_gpu():
        far, near = torch.ones(2, 3, device="cuda"), torch.ones(2, 3)
        for wrong in (
            lambda: far + near,
            lambda: near[far[:, 0].long()],
            lambda: torch.where(far > 0, near, far),
            lambda: far.scatter_(1, near.long(), 0.0),
            lambda: torch.rand(2, device="cuda", generator=torch.Generator()),
            lambda: far.numpy(),
        ):
            with pytest.raises(DeviceError):
                wrong()
        assert (far + torch.tensor(1.0)).device == CUDA
        assert far[near[:, 0].long()].tolist() == [[1.0] * 3] * 2
        assert far.cpu().numpy().sum() == 6
