"""Repairs of single kinds of RecBole's models: several stages, knowledge graphs, clusters, samples of users and items."""

from __future__ import annotations

import functools
from typing import Any

import torch

from rporec_recbole.host.kinds import STAGES
from rporec_recbole.host.repair import repair


@repair(
    "two-stage-models",
    symptom="UnpicklingError after the first stage of S3Rec and RaCT; what is evaluated is a model that never learned to recommend",
    cause="trainer/trainer.py: each stage is a run of its own that unpickles the file of the one before, named by hand (`pre_model_path`)",
    remove_when="RecBole's trainers run the stages one after another",
)
def stages_in_turn() -> None:
    from recbole.trainer import RaCTTrainer, S3RecTrainer, Trainer

    def fit(
        self: Any,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Any = None,
    ) -> Any:
        file, stages = self.saved_model_file, STAGES[self.config["model"]]
        for stage in stages:
            _enter(self.model, stage)
            self.optimizer = self._build_optimizer()  # as the run of its own that a stage is in RecBole
            if stage != stages[-1]:
                self.logger.info(f"stage `{stage}`: {self.pretrain_epochs} epochs (`pretrain_epochs`)")
                self.pretrain(train_data, verbose, show_progress)
        self.saved_model_file = file
        self.train_loss_dict.clear()
        return Trainer.fit(self, train_data, valid_data, verbose, saved, show_progress, callback_fn)

    def nothing_to_save(self: Any, epoch: int, saved_model_file: str) -> None:
        """The next stage takes the model as it is."""

    for trainer in (S3RecTrainer, RaCTTrainer):
        trainer.fit = fit
        trainer.save_pretrained_model = nothing_to_save


def _enter(model: Any, stage: str) -> None:
    """Makes a model of several stages what RecBole builds for a stage, its weights as they are."""
    model.train_stage = stage
    if hasattr(model, "critic_net"):
        critic = stage == "critic_pretrain"
        for part, learns in ((model.encoder, not critic), (model.decoder, not critic), (model.critic_net, critic)):
            part.requires_grad_(learns)
    elif stage == "finetune":
        from recbole.model.loss import BPRLoss

        model.loss_fct = BPRLoss() if model.loss_type == "BPR" else torch.nn.CrossEntropyLoss()


@repair(
    "knowledge-loader",
    symptom="AttributeError: 'KnowledgeBasedDataLoader' object has no attribute 'dataset', for every knowledge-aware model",
    cause="data/dataloader/knowledge_dataloader.py: the loader of two loaders lacks what the others offer",
    remove_when="RecBole's loader of knowledge graphs has `dataset`",
)
def knowledge_loader() -> None:
    from recbole.data.dataloader import KnowledgeBasedDataLoader

    KnowledgeBasedDataLoader.dataset = property(lambda self: self._dataset)


@repair(
    "dgcf-samples",
    symptom="ValueError: Sample larger than population, in the first batch of DGCF on data of few batches",
    cause="model/general_recommender/dgcf.py:79 samples as many users as items, by the larger of the two counts",
    remove_when="RecBole samples no more users and items than there are",
)
def dgcf_samples() -> None:
    import recbole.model.general_recommender.dgcf as module

    sample = module.sample_cor_samples

    @functools.wraps(sample)
    def sample_what_is_there(n_users: int, n_items: int, cor_batch_size: int) -> Any:
        return sample(n_users, n_items, min(n_users, n_items, cor_batch_size))

    module.sample_cor_samples = sample_what_is_there


@repair(
    "ksr-relations",
    symptom="RuntimeError: expected m1 and m2 to have the same dtype, in the first batch of KSR",
    cause="model/sequential_recommender/ksr.py:92 keeps the vectors of relations in double precision, beside weights in single",
    remove_when="RecBole turns them into single precision",
)
def ksr_relations() -> None:
    from recbole.model.sequential_recommender import KSR

    make = KSR.__init__

    @functools.wraps(make)
    def make_in_single_precision(self: Any, config: Any, dataset: Any) -> None:
        make(self, config, dataset)
        self.relation_Matrix = self.relation_Matrix.float()

    KSR.__init__ = make_in_single_precision
