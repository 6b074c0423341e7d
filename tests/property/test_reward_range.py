"""Whatever a backbone writes: every part but one stays in [0, 1], every gate is open or closed, nothing raises."""

import dataclasses

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rporec_recbole.cot.quality import QualityLimits
from rporec_recbole.model.encoder import LSAEncoder
from rporec_recbole.rewards.gates import GATES
from rporec_recbole.rewards.parts import PARTS
from rporec_recbole.rewards.rechead_reward import trial_record
from rporec_recbole.rewards.record import Summaries, TextVectors
from rporec_recbole.text.catalogue import Catalogue, ItemText
from rporec_recbole.text.completions import TAGS, parse_completion, render_completion

TITLES = ["", "Heat", "Toy Story", "Up", "東京物語", "!?"]
CATALOGUE = Catalogue([ItemText(title, ("Drama", "1995")) for title in TITLES], ("title", "genre", "year"))
ENCODER = LSAEncoder.fit(CATALOGUE.lines[1:], 4, 0)
PIECES = st.one_of(
    st.text(max_size=30),
    st.sampled_from([*TAGS, *CATALOGUE.lines, "Heat, Up, ", " | ", "drama 1", "1990s " + "9" * 5000, "the same "]),
)
WRITTEN = st.lists(PIECES, max_size=12).map("".join)
COMPLETIONS = st.one_of(WRITTEN, st.builds(render_completion, WRITTEN, WRITTEN))


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(COMPLETIONS, min_size=1, max_size=4), data=st.data())
def test_range(texts, data):
    completions = [parse_completion(text) for text in texts]
    some = st.lists(st.floats(0, 12), max_size=9)
    record = dataclasses.replace(
        trial_record(CATALOGUE, lambda _: None, 5, QualityLimits(3, 20, 0.3, 0.7)),
        completions=completions,
        prompts=[data.draw(st.text(max_size=40)) for _ in texts],
        histories=(histories := [data.draw(st.lists(st.integers(1, 5), max_size=4)) for _ in texts]),
        shown=[history[-2:] for history in histories],
        targets=torch.tensor([data.draw(st.integers(1, 5)) for _ in texts]),
        scores=torch.randn(len(texts), len(TITLES)),
        make_vectors=lambda: TextVectors(
            torch.from_numpy(ENCODER.encode([one.cot for one in completions])),
            torch.from_numpy(ENCODER.encode([one.answer for one in completions])),
        ),
        make_entropies=lambda: [torch.tensor(data.draw(some)) for _ in texts],
        make_summaries=lambda: Summaries(
            short := [data.draw(PIECES) for _ in texts], torch.from_numpy(ENCODER.encode(short))
        ),
    )
    for name, part in PARTS.items():
        value = part(record)
        assert value.shape == (len(texts),)
        assert ((value >= 0) & (value <= (12 if name == "entropy_gap_uncapped" else 1))).all()
    for gate in GATES.values():
        assert set(gate(record).tolist()) <= {0.0, 1.0}
