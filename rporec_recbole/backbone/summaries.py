"""A frozen language model that says a chain of thought in few words: what two parts of the paper's reward are measured by."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.running import context_length
from rporec_recbole.cot.store import Decoding
from rporec_recbole.text.completions import ANSWER, ANSWER_END

TOKENS = 128  # of a summary, as in the paper's release
_REQUEST = f"""Below somebody thinks about which item a user will choose next. Say it again in as few words as you can: keep every step
that the recommendation rests on, each of them short, and leave out repetitions, headings and phrases that say nothing. Write the
summary alone, between {ANSWER} and {ANSWER_END}.

"""


class Summarizer:
    """Writes summaries with a copy of a backbone as it is now, which nothing trains.

    The copy takes as much memory as the backbone itself. Summaries are greedy, so a cot has one.

    Args:
        backbone: is copied; stays as it is.
    """

    def __init__(self, backbone: Backbone) -> None:
        context, room = context_length(backbone.model.config), backbone.prompts.max_tokens
        model = copy.deepcopy(backbone.model).requires_grad_(False).eval()
        self._frozen = Backbone(
            model,
            backbone.tokenizer,
            backbone.name,
            batch_tokens=backbone.batch_tokens,
            max_prompt_tokens=room if context is None else max(1, min(room, context - TOKENS)),
        )

    def __call__(self, cots: Sequence[str]) -> list[str]:
        """One summary a cot, empty for an empty one and where the model closed none within `TOKENS` tokens."""
        wanted = [cot for cot in dict.fromkeys(cots) if cot]
        written = self._frozen.generate([request(cot) for cot in wanted], Decoding(0.0, TOKENS)) if wanted else []
        found = {cot: summary_in(text) for cot, text in zip(wanted, written, strict=True)}
        return [found.get(cot, "") for cot in cots]


def request(cot: str) -> str:
    """What the model is asked; it goes on behind an open `<answer>`."""
    return f"{_REQUEST}{cot}\n\nSummary: {ANSWER}"


def summary_in(text: str) -> str:
    """The summary in what the model wrote: what stands in front of `</answer>`, behind an `<answer>` that it opened once more."""
    inside, closed, _ = text.partition(ANSWER_END)
    return inside.rpartition(ANSWER)[2].strip() if closed else ""
