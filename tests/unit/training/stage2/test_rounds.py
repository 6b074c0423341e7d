"""The order of a run's stages, and which round is kept."""

import pytest
import torch

from rporec_recbole.errors import RunFolderError
from rporec_recbole.training.stage2.rounds import BestRound, steps_of
from rporec_recbole.training.state.snapshots import Progress

ALL = ["1a", "1b", "1c", "2", "2b", "refresh"]


def test_the_order_of_stages():
    assert [step.name for step in steps_of(ALL, 1)] == ALL
    assert [step.name for step in steps_of(ALL, 2)] == [*ALL[:5], "2, round 2", "2b, round 2", "refresh"]
    assert [step.name for step in steps_of(["1a"], 1)] == ["1a"]


class Backbone:
    """One weight, which says the round."""

    def __init__(self):
        self.number = torch.zeros(1)

    def weights(self):
        return {"number": self.number.clone()}

    def set_weights(self, weights):
        self.number = weights["number"].clone()


class Model(torch.nn.Linear):
    """A head with one weight, and a backbone."""

    def __init__(self):
        super().__init__(1, 1)
        self.backbone = Backbone()

    def at(self, number):
        torch.nn.init.constant_(self.weight, number)
        self.backbone.number = torch.tensor([float(number)])
        return self


def offered(model, best, scores, bigger, first=1):
    for number, score in enumerate(scores, start=first):
        model.at(number)
        best.offer(number, score, {"ndcg@10": score}, bigger)


def test_the_best_round_comes_back():
    for scores, bigger, number in (
        ([0.1, 0.3, 0.2], True, 2),
        ([0.1, 0.3, 0.2], False, 1),
        ([0.1, 0.2, 0.3], True, 3),
        ([0.2, 0.2, 0.1], True, 2),
    ):
        model = Model()
        best = BestRound(model, Progress(None), len(scores))
        offered(model, best, scores, bigger)
        assert best.take()["round"] == number
        assert model.weight.item() == model.backbone.number.item() == number
        assert [one["round"] for one in best.rounds if one["kept"]] == [number]


def test_the_best_round_comes_back_in_another_process(tmp_path):
    model = Model()
    before = BestRound(model, Progress(tmp_path), 2)
    offered(model, before, [0.3, 0.2], True)
    after = BestRound(model.at(9), Progress(tmp_path), 2)
    after.rounds = before.rounds
    assert after.take()["valid"] == {"ndcg@10": 0.3}
    assert model.weight.item() == model.backbone.number.item() == 1


def test_a_round_that_a_full_disk_kept_out_is_not_mistaken_for_the_one_before(tmp_path, monkeypatch):
    model, progress = Model(), Progress(tmp_path)
    best = BestRound(model, progress, 3)
    offered(model, best, [0.1], True)
    monkeypatch.setattr(progress, "save", lambda *_: False)
    model.at(2)
    best.offer(2, 0.3, {}, True)
    best.offer(3, 0.2, {}, True)
    after_a_kill = BestRound(model, progress, 3)
    after_a_kill.rounds = best.rounds
    with pytest.raises(RunFolderError, match="round 2, the best one, is gone"):
        after_a_kill.take()


def test_what_was_there_before_the_first_round_comes_back_where_no_round_is_as_good():
    for scores, number in (([0.3, 0.2], 0), ([0.3, 0.3], 1), ([0.2, 0.3], 1)):
        model = Model()
        best = BestRound(model, Progress(None), 1)
        offered(model, best, scores, True, first=0)
        assert best.take()["round"] == model.weight.item() == model.backbone.number.item() == number
