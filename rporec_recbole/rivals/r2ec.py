"""R2ec: one language model that reasons about a history in text and ranks all items with the state behind that text.

R. You et al., "R2ec: Towards Large Recommender Models with Reasoning", NeurIPS 2025 (arXiv 2505.16994). What differs from the paper and its code:
docs/rivals.md. How it learns: `r2ec_trainer.py`.

Letters in shapes: B rows, N items (0 is padding), H hidden size of the language model, M live items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from rporec_recbole.backbone.load import check_backbone, load_backbone, make_backbone
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.running import in_eval_mode
from rporec_recbole.cot.store import Decoding
from rporec_recbole.data.files import BACKBONE
from rporec_recbole.rivals.dataset import WindowDataset
from rporec_recbole.rivals.r2ec_lessons import HistoryRow, composed_text
from rporec_recbole.rivals.r2ec_reader import Reader, Reasoned
from rporec_recbole.rivals.text_vectors import catalogue_of, kept_folder
from rporec_recbole.settings.reader import backbone_settings
from rporec_recbole.text.prompts import PromptTemplate

_MOST_STATES = 2**16
"""How many histories' states are kept between evaluations; beyond that all are made anew."""


class R2ec(SequentialRecommender):
    """Settings: properties/model/R2ec.yaml. Scores are cosines of the state behind a greedy reasoning and items, over the temperature.

    The language model is no submodule: it has a folder of its own in a run, and `state_dict` holds the vectors of the items alone.

    Args:
        config: RecBole's Config.
        dataset: RecBole's data set of the training.

    Attributes:
        catalogue: texts of items.
        backbone: the language model.
        reader: reads and writes with it.
        template: makes prompts.
        items: texts of items as tokens; that of padding is never read.
        item_states: `[N, H]`, each as it was when it was read last.

    Raises:
        BackboneError: the language model is not there or cannot be used.
    """

    input_type = InputType.POINTWISE
    dataset_class = WindowDataset
    item_states: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.seed, self.temperature = int(config["seed"]), float(config["temperature"])
        self.reasoning = bool(config["reasoning"])
        self.ratings = dataset.ratings if config["prompt_ratings"] else None
        self._new_tokens = int(config["max_new_tokens"])
        self._live = int(config["live_items"])
        self.catalogue = catalogue = catalogue_of(config, dataset)
        style = str(config["prompt_style"])
        settings, problems = backbone_settings(config.final_config_dict)
        assert settings is not None, problems
        folder, device = kept_folder(config), torch.device(config["device"])
        self.template = PromptTemplate(catalogue, int(config["prompt_items"]), style)
        if folder is not None:
            self.backbone: Backbone = load_backbone(folder / BACKBONE, settings, device)
        else:
            check_backbone(settings, device)
            ends = training_order(dataset, self.seed)[: int(config["warmup_examples"])]
            rows, targets = self.rows_at(dataset, ends)
            texts = [composed_text(self.template, row, target) for row, target in zip(rows, targets, strict=True)]
            prompts = [self.template.prompt(*row) for row in rows]
            self.backbone = make_backbone(settings, [*catalogue.lines, *prompts, *texts], device, self.seed)
        self.template = PromptTemplate(
            catalogue,
            int(config["prompt_items"]),
            style,
            settings.max_prompt_tokens - self.backbone.prompts.overhead,
            self.backbone.prompts.count,
        )
        self.reader = Reader(self.backbone)
        self.items = self.reader.items(catalogue.lines, style)
        self._writer: tuple[str, bool] = ("", self.reasoning)
        self._states: dict[str, Tensor] = {}  # behind prompts that this writer has reasoned about already
        self.register_buffer("item_states", torch.zeros(self.n_items, self.reader.width))

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Those of the language model that learn: it has all of them."""
        return iter(self.backbone.trainable())

    # --- items --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def read_items(self) -> None:
        """Reads all items anew."""
        with in_eval_mode(self.backbone.model):
            self.item_states[1:] = self.reader.last_states(self.items[1:])

    def live_items(self, targets: Tensor, rng: np.random.Generator) -> Tensor:
        """`[M]` ids that a step reads anew: `live_items` of its targets, all where they are fewer, and as many of all items.

        Args:
            targets: ids, in any number.
            rng: draws them.
        """
        own = np.unique(targets.cpu().numpy())
        own = rng.permutation(own)[: self._live]
        drawn = rng.integers(1, self.n_items, self._live)
        return torch.from_numpy(np.union1d(own, drawn)).to(targets)

    def item_logits(self, states: Tensor, live: Tensor) -> Tensor:
        """Scores of all items, `[B, N]`, with gradients into the states and into the live items; padding has `-inf`.

        Args:
            states: `[B, H]`.
            live: `[M]` ids, which are read anew.
        """
        fresh = self.reader.last_states([self.items[item] for item in live.tolist()])
        vectors = self.item_states.index_copy(0, live, fresh.to(self.item_states))
        self.item_states = vectors.detach()
        return self.scores_of(states, vectors)

    def scores_of(self, states: Tensor, vectors: Tensor | None = None) -> Tensor:
        """`[B, N]` of states, by these vectors of items or by those that were read last; padding has `-inf`."""
        vectors = self.item_states if vectors is None else vectors
        scores = F.normalize(states, dim=-1) @ F.normalize(vectors, dim=-1).T / self.temperature
        padding = torch.zeros(scores.shape[1], device=scores.device)
        padding[0] = -torch.inf
        return scores + padding

    # --- histories ----------------------------------------------------------------------------------------------------

    def history_rows(self, rows: Any) -> list[HistoryRow]:
        """The history of each row, as prompts take it. The target is not among what it returns."""
        histories = rows[self.ITEM_SEQ].tolist()
        ratings = None if self.ratings is None else self.ratings.of(rows)
        return [(history, None if ratings is None else ratings[row]) for row, history in enumerate(histories)]

    def rows_at(self, dataset: Any, ends: np.ndarray) -> tuple[list[HistoryRow], list[int]]:
        """Histories and targets of training positions.

        Args:
            dataset: the training part.
            ends: timeline indices of the targets.
        """
        if not len(ends):
            return [], []
        rows = dataset.histories(ends)
        return self.history_rows(rows), rows[self.ITEM_ID].tolist()

    def reason(
        self, prompts: Sequence[str], temperature: float = 0.0, identities: Sequence[str] | None = None
    ) -> list[Reasoned]:
        """Prompts with what is written behind each, nothing with `reasoning: False`.

        Args:
            prompts: texts.
            temperature: of draws; 0 is greedy.
            identities: names the stream of draws of each.
        """
        if not self.reasoning:
            return self.reader.unreasoned(prompts)
        with in_eval_mode(self.backbone.model):
            return self.reader.reason(prompts, Decoding(temperature, self._new_tokens, self.seed), identities)

    # --- RecBole's methods --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """`[B, N]`: each history is reasoned about greedily, once, and the state behind that scores. The target is not read."""
        prompts = [self.template.prompt(*row) for row in self.history_rows(interaction)]
        writer = (self.backbone.fingerprint, self.reasoning)
        if writer != self._writer or len(self._states) > _MOST_STATES:
            self._writer, self._states = writer, {}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._states]
        if missing:
            reasoned = self.reason(missing)
            with in_eval_mode(self.backbone.model):
                states = self.reader.last_states([one.tokens for one in reasoned])
            self._states.update(zip(missing, states, strict=True))
        return self.scores_of(torch.stack([self._states[prompt] for prompt in prompts]))

    def predict(self, interaction: Any) -> Tensor:
        """`[B]` scores of the rows' own items."""
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)


def training_order(dataset: Any, seed: int) -> np.ndarray:
    """Timeline indices of all training targets, in random order.

    Args:
        dataset: the training part.
        seed: of the order.
    """
    ends = np.asarray(dataset.train_ends)
    return ends[np.random.default_rng(seed).permutation(len(ends))]
