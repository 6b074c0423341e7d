"""`short_rows` beside RecBole's own rows and models: the same rows, losses, gradients, scores and trainings, without the padding."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from torch import nn

from rporec_recbole.data.rows import Rows
from rporec_recbole.errors import ConfigError
from rporec_recbole.host.bridge import build_config, build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.host.models import find_model
from rporec_recbole.host.ranked import RankCollector, evaluated
from rporec_recbole.host.short_rows import EXACT, InPieces, draws, pieces, remark, shortened
from tests.contract.test_kinds_of_model import benchmark

WHOLE = {"item": ["item_id", "genre", "price", "words"], "inter": ["user_id", "item_id", "rating", "timestamp"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return benchmark().write_made(tmp_path_factory.mktemp("short"))


def config_of(made, model="SASRec", **settings):
    needs = benchmark().NEEDS.get(model, {})
    return build_config(
        model, "made", overrides={"data_path": str(made), "MAX_ITEM_LIST_LENGTH": 9, **needs, **settings}
    )


def built(made, model, **settings):
    config = config_of(made, model, **settings)
    _, train, valid, test = build_data(config)
    return build_model(config, train), train, valid, test


def same_rows(ours, theirs):
    assert sorted(ours.columns) == sorted(theirs.columns)
    for name in theirs.columns:
        assert ours[name].dtype == theirs[name].dtype, name
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"MAX_ITEM_LIST_LENGTH": 3, "load_col": WHOLE, "numerical_features": ["price", "rating"]},
        {"load_col": WHOLE, "discretization": {"rating": {"method": "ED", "bucket": 3}}, "numerical_features": ["rating"]},
        {"legacy_time_order": True, "normalize_all": False, "hide_seen": True},
        {"eval_args": {"split": {"TS": [0.6, 0.2, 0.2]}}},
        {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": None}},
        {"unused_col": {"inter": ["timestamp", "timestamp_list"]}},
    ],
)  # fmt: skip
def test_rows_on_demand_are_recboles_bit_for_bit(made, settings):
    ours = build_data(config_of(made, short_rows="exact", **settings))
    theirs = build_data(config_of(made, short_rows="never", **settings))
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert all(
            column.dim() == 1 or "list" not in name for name, column in one.dataset.inter_feat.interaction.items()
        )
        same_rows(one.dataset.inter_feat.written(), other.dataset.inter_feat)
        same_rows(one.dataset[np.arange(3)], other.dataset[np.arange(3)])
        assert (one.dataset.inter_matrix() != other.dataset.inter_matrix()).nnz == 0
        assert (one.sampler is None) == (other.sampler is None)
        for mine, batch in zip(one, other, strict=True):
            pairs = zip(mine, batch, strict=True) if isinstance(mine, tuple) else [(mine, batch)]
            for left, right in pairs:
                if isinstance(right, Interaction):
                    same_rows(left, right)


def test_rows_behave_as_an_interaction(made):
    _, train, *_ = build_data(config_of(made, short_rows="exact"))
    rows = train.dataset.inter_feat
    assert isinstance(rows, Rows)
    stored = rows.written()
    for one in (slice(0, 2), [1, 3], range(2, 5), np.array([2]), torch.tensor([0, 4]), stored["item_length"] == 1):
        same_rows(rows[one].written(), stored[one])
        assert isinstance(rows[one], Rows)
    assert len(rows[[]]) == len(rows[range(0)]) == 0
    same_rows(rows[3], stored[3])
    same_rows(rows.to("cpu"), stored)
    same_rows(rows.repeat(2), stored.repeat(2))
    same_rows(rows.repeat_interleave(2), stored.repeat_interleave(2))
    assert rows.cpu().columns == list(rows.numpy())
    assert set(rows) == set(stored)
    assert "item_id_list" not in rows.interaction
    assert torch.equal(rows.item_id_list, stored["item_id_list"])
    assert "item_id_list" in rows.interaction  # it was asked for by name, so it is kept
    rows.sort(by="item_id")
    stored.sort(by="item_id")
    same_rows(rows.written(), stored)
    rows.drop("item_id_list")
    del rows["timestamp_list"]
    assert {"item_id_list", "timestamp_list"}.isdisjoint(rows.columns)
    for wrong in (lambda: rows["nothing"], lambda: rows.nothing, lambda: rows.drop("nothing")):
        with pytest.raises((KeyError, AttributeError, ValueError)):
            wrong()


def learned(model, batch):
    """Loss and gradients of a batch, with nothing dropped."""
    model.zero_grad()
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    loss = model.calculate_loss(batch)
    loss.backward()
    return loss.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("model", EXACT)
def test_losses_gradients_and_ranks_are_recboles(made, model):
    """All that a training and an evaluation read of a model, in pieces and padded as RecBole pads, from the same weights."""
    config = config_of(made, model, short_rows="never")
    _, train, _, test = build_data(config)
    theirs = build_model(config, train)
    assert not isinstance(theirs, InPieces)
    config["short_rows"] = "always"
    ours = build_model(config, train)
    assert isinstance(ours, InPieces)
    ours.load_state_dict(theirs.state_dict())
    widths, forward = set(), type(theirs).forward

    def look(self, item_seq, *rest):
        widths.add(item_seq.shape[1])
        return forward(self, item_seq, *rest)

    batch = next(iter(train))
    expected, gradients = learned(theirs, batch)
    cheap = pytest.MonkeyPatch()
    with cheap.context() as patch:
        patch.setattr("rporec_recbole.host.short_rows._SLOTS_A_PIECE", 0)
        patch.setattr("rporec_recbole.host.short_rows._SLOTS_AN_ITEM", 0)
        patch.setattr("rporec_recbole.host.short_rows._LOGITS_AT_ONCE", 0)
        patch.setattr("rporec_recbole.host.short_rows._LEAST_ROWS", 50)
        patch.setattr(type(theirs), "forward", look)
        loss, found = learned(ours, batch)
        assert len(widths) > 4
        for one in (ours, theirs):
            one.eval()
        rows = next(iter(test))[0]
        with torch.no_grad():
            scores = ours.full_sort_predict(rows)
            single = ours.predict(rows)
    with torch.no_grad():
        torch.testing.assert_close(single, theirs.predict(rows), rtol=1e-5, atol=1e-6)
        stock = theirs.full_sort_predict(rows)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=2e-7, msg=name)
    torch.testing.assert_close(scores, stock, rtol=1e-5, atol=1e-6)
    targets = rows["item_id"][:, None]
    rank = lambda given: (given > given.gather(1, targets)).sum(dim=1).tolist()  # noqa: E731
    assert rank(scores) == rank(stock)


@pytest.mark.parametrize("model", ["LightSANs", "STAMP", "NPE", "DIN", "SASRecCPR"])
def test_models_that_read_their_padding_are_left_alone(made, model):
    config = config_of(made, model, short_rows="always")
    assert shortened(config) is config.model_class
    assert f"`short_rows=always` leaves {model} as it is" in remark(config, nn.Module())
    config["short_rows"] = "exact"
    assert remark(config, nn.Module()) is None


def test_padding_counts_in_models_that_are_left_alone(made):
    for name in ("LightSANs", "STAMP"):
        model, _, _, test = built(made, name)
        model.eval()
        rows = next(iter(test))[0]
        short = int(rows["item_length"].min())
        few = rows[rows["item_length"] == short]
        with torch.no_grad():
            whole = model.forward(few["item_id_list"], few["item_length"])
            cut = model.forward(few["item_id_list"][:, :short], few["item_length"])
        assert not torch.allclose(whole, cut, rtol=1e-3)


Own = type("Own", (find_model("SASRec"),), {"__module__": __name__})
"""What somebody makes of SASRec may read anything."""


def test_a_model_of_somebodys_own_is_left_alone(made):
    config = build_config(Own, "made", overrides={"data_path": str(made), "short_rows": "always"})
    assert shortened(config) is Own


def trained(made, folder, **settings):
    """Scores of each validation, then metrics and ranks of the test split, of a SASRec that was trained twice over all rows."""
    small = {"epochs": 2, "train_batch_size": 64, "hidden_size": 16, "inner_size": 16, "n_layers": 1}
    config = config_of(made, **small, **settings)
    config["checkpoint_dir"] = str(folder)
    dataset, train, valid, test = build_data(config)
    model = build_model(config, train)
    trainer = build_trainer(config, model)
    trainer.eval_collector = RankCollector(config, dataset)
    curve = []
    trainer.fit(train, valid, callback_fn=lambda epoch, score: curve.append(score))
    trainer.eval_collector.take("training")
    return curve, *evaluated(trainer, test, "test", best=True), remark(config, model)


def test_a_training_with_dropout_is_recboles_unless_asked_for_other_draws(made, tmp_path):
    ours = trained(made, tmp_path)
    assert "--short_rows=always" in ours[3]
    theirs = trained(made, tmp_path, short_rows="never")
    assert ours[0] == pytest.approx(theirs[0], abs=1e-12)
    assert ours[1] == pytest.approx(theirs[1], abs=1e-12)
    assert ours[2].equals(theirs[2])
    assert theirs[3] is None
    other = trained(made, tmp_path, short_rows="always")
    assert not ours[2].equals(other[2])
    assert other[3] is None


def test_a_training_without_dropout_is_short_and_ends_in_the_same_ranks(made, tmp_path):
    none = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    ours, theirs = (trained(made, tmp_path, short_rows=one, **none) for one in ("exact", "never"))
    assert ours[2].equals(theirs[2])
    assert ours[1] == theirs[1]
    assert ours[3] is None


def test_which_trainings_draw(made):
    assert draws(built(made, "SASRec")[0])
    assert draws(built(made, "GRU4Rec")[0])
    assert not draws(built(made, "SRGNN")[0])
    assert draws(nn.GRU(2, 2, num_layers=2, dropout=0.1))


@pytest.mark.parametrize("wrong", ["sometimes", True, 3, "", ["exact"]])
def test_other_values_are_refused(made, wrong):
    with pytest.raises(ConfigError, match="short_rows"):
        config_of(made, short_rows=wrong)


def test_pieces_cost_least():
    rng = np.random.default_rng(0)
    for overhead in (0, 3, 20, 1000):
        lengths = np.sort(rng.integers(1, 8, size=12))
        found = pieces(lengths, overhead)
        cost = lambda cut, lengths=lengths, overhead=overhead: sum(  # noqa: E731
            (stop - start) * lengths[stop - 1] + overhead for start, stop in itertools.pairwise([0, *cut])
        )
        assert all(lengths[stop - 1] == width for stop, width in found)
        every = ([*cut, 12] for number in range(12) for cut in itertools.combinations(range(1, 12), number))
        assert cost([stop for stop, _ in found]) == min(cost(cut) for cut in every)


def test_the_docs_name_these_models():
    for page, start in (
        ("recbole_users.md", "reads nothing of its padding: "),
        ("recbole_models.md", "#without-padding)): "),
    ):
        text = " ".join((Path(__file__).parents[2] / "docs" / page).read_text("utf-8").split())
        named = text.split(start)[1].split("SRGNN")[0] + "SRGNN"
        assert tuple(named.replace(" and ", ", ").split(", ")) == EXACT
