"""How fast is the generation engine? New tokens per second beside `model.generate` and beside the reading of prompts.

    python benchmarks/generation.py [--users=400] [--tokens=96] [--rounds=2] [--batches=8,32,64,128,256]
                                    [--run=saved/generation/tiny | --backbone=FILE.gguf] [--out=saved/generation]
                                    [--clock=wall]

The prompts are those of the test split of ml-100k, of real mixed lengths. `tiny` is warmed up as in the default run, once:
--run keeps it. All of them have the same weights, prompts, limit and end tokens and are greedy; `model.generate` keeps
transformers' defaults, takes users in their order and is measured at every batch size, and at its best one again with the
prompts sorted by length. Prefill is the plain forward pass over sorted prompts, logits of the last token only, at its best
batch size. `grounded` ends each text in a line of the catalogue, with 15 others behind; `int8` has layers of 8-bit integers, where the
processor multiplies them, and so writes texts of its own. The best of --rounds counts. With a GGUF file use few users and tokens. Rates are by the clock on the wall, or,
where other jobs keep the machine busy, by processor seconds (--clock=processor, best with OMP_NUM_THREADS=1). Writes
generation-BACKBONE.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import CLOCKS, add_clock, machine, new_parser, numbers, table_head, table_row, warmed_tiny, write_json

if TYPE_CHECKING:
    import torch

    from rporec_recbole.backbone.load import Backbone

TIME = "minutes"
RESULTS = {
    "benchmarks/results/generation-tiny.json": (
        "python benchmarks/generation.py --users=200 --batches=16,64,128,200; copied from --out"
    ),
    "benchmarks/results/generation-gemma-3-270m.json": (
        "python benchmarks/generation.py --backbone=FILE.gguf --users=8 --tokens=256 --rounds=1 --batches=4,8 "
        "--clock=processor; copied from --out"
    ),
}


@dataclass(frozen=True)
class Measured:
    """One line of the table. `tokens` are new tokens, for prefill prompt tokens."""

    name: str
    batch: int | None
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def warmed(folder: Path, users: int) -> tuple[Backbone, list[str]]:
    """`tiny` after its warm-up, and prompts of the test split."""
    loaded = warmed_tiny(folder)
    return loaded.model.backbone, prompts_of(loaded.model, loaded.loaders["test"], users)


def pretrained(file: str, users: int) -> tuple[Backbone, list[str]]:
    """A backbone from a file, as it is, and prompts of the test split with the instruction for pretrained models."""
    import torch

    from rporec_recbole.backbone.load import make_backbone
    from rporec_recbole.cot.store import CoTStore
    from rporec_recbole.host.bridge import build_config, build_model
    from rporec_recbole.host.data import build_data

    config = build_config("RPORec", "ml-100k", overrides={"backbone": file})
    _, train, _, test = build_data(config)
    model = build_model(config, train)
    backbone = make_backbone(model.settings.backbone, (), torch.device(config["device"]), model.seed)
    model.connect(backbone, CoTStore())
    return backbone, prompts_of(model, test, users)


def prompts_of(model: Any, loader: Any, users: int) -> list[str]:
    from rporec_recbole.training.stage1.rows import history_rows

    rows = history_rows(model, loader.dataset.inter_feat)
    return [model.reasoner.template.prompt(*row) for row in rows[:users]]


def padded(prompts: Sequence[list[int]], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    import torch

    width = max(map(len, prompts))
    tokens = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {
        "input_ids": torch.tensor(tokens, device=device),
        "attention_mask": torch.tensor(mask, device=device),
    }


def batches(prompts: Sequence[list[int]], batch: int, by_length: bool) -> list[list[int]]:
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i])) if by_length else list(range(len(prompts)))
    return [order[start : start + batch] for start in range(0, len(order), batch)]


def prefill(backbone: Backbone, prompts: Sequence[list[int]], batch: int) -> int:
    import torch

    with torch.inference_mode():
        for rows in batches(prompts, batch, by_length=True):
            inputs = padded([prompts[i] for i in rows], backbone.tokenizer.pad_token_id, backbone.device)
            positions = (inputs["attention_mask"].cumsum(1) - 1).clamp_(min=0)
            backbone.model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=1)
    return sum(map(len, prompts))


def transformers_generate(
    backbone: Backbone, prompts: Sequence[list[int]], batch: int, most: int, by_length: bool
) -> list[list[int]]:
    """New tokens of every prompt, up to where the engine would stop."""
    ends, written = set(backbone.end_tokens), [[] for _ in prompts]
    for rows in batches(prompts, batch, by_length):
        inputs = padded([prompts[i] for i in rows], backbone.tokenizer.pad_token_id, backbone.device)
        out = backbone.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=most,
            eos_token_id=sorted(ends),
            pad_token_id=backbone.tokenizer.pad_token_id,
        )
        for i, tokens in zip(rows, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            stop = next((n for n, token in enumerate(tokens) if token in ends), len(tokens) - 1)
            stop = next((n for n in range(stop) if backbone.has_answered(tokens[max(0, n - 11) : n + 1])), stop)
            written[i] = tokens[: stop + 1]
    return written


def measured(
    clock: Callable[[], float], name: str, batch: int | None, rounds: int, work: Callable[[], int]
) -> Measured:
    """The quickest of `rounds`; `work` returns its number of tokens."""
    tries = []
    for _ in range(rounds):
        start = clock()
        tokens = work()
        tries.append(Measured(name, batch, tokens, clock() - start))
    best = min(tries, key=lambda one: one.seconds)
    figures = (f"{best.tokens:,}", f"{best.seconds:.2f}", f"{best.rate:,.0f}")
    print(table_row(name, batch or "", *figures), flush=True)
    return best


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batches", type=numbers, default="8,32,64,128,256")
    parser.add_argument("--run", type=Path, default=Path("saved/generation/tiny"))
    parser.add_argument("--backbone")
    add_clock(parser)
    parser.add_argument("--out", type=Path, default=Path("saved/generation"))
    options = parser.parse_args()

    from rporec_recbole.backbone.int8 import int8_layers, products_are_exact, standing_in
    from rporec_recbole.cot.store import Decoding

    if options.backbone:
        backbone, texts = pretrained(options.backbone, options.users)
    else:
        backbone, texts = warmed(options.run, options.users)
    prompts, most, rounds = backbone.prompts.encode(texts), options.tokens, options.rounds
    timed, sizes = partial(measured, CLOCKS[options.clock]), options.batches
    backbone.generate_tokens(texts[:2], Decoding(max_new_tokens=2))  # what is done once is done
    print(table_head("what", "batch", "tokens", "seconds", "tokens/s"))

    kept: dict[str, list[list[int]]] = {}

    def keep(name: str, written: list[list[int]]) -> int:
        kept[name] = written
        return sum(map(len, written))

    def engine(temperature: float, limit: int) -> list[list[int]]:
        return [one.tokens for one in backbone.generate_tokens(texts, Decoding(temperature, limit))]

    reading = [timed("prefill", size, rounds, lambda b=size: prefill(backbone, prompts, b)) for size in (1, 4, *sizes)]
    lines = list(reading)
    ours = timed("engine", None, rounds, lambda: keep("engine", engine(0.0, most)))
    first = timed("engine, first token", None, rounds, lambda: keep("first", engine(0.0, 1)))
    sampled = timed("engine, sampled at .7", None, rounds, lambda: keep("sampled", engine(0.7, most)))

    def grounded() -> list[list[int]]:
        asked = Decoding(0.0, most, guesses=16, lines="those of the catalogue")
        return [backbone.tokenizer(text)["input_ids"] for text in backbone.generate(texts, asked)]

    answered = timed("engine, grounded", None, rounds, lambda: keep("grounded", grounded()))
    quick = []
    if products_are_exact():
        with standing_in(backbone.model, int8_layers(backbone.model)):
            quick = [
                timed("int8", None, rounds, lambda: keep("int8", engine(0.0, most))),
                timed("int8, grounded", None, rounds, lambda: keep("int8, grounded", grounded())),
            ]
    theirs = [
        timed(
            "generate", size, 1,
            lambda b=size: keep(f"generate {b}", transformers_generate(backbone, prompts, b, most, False)),
        )
        for size in sizes
        if size <= len(prompts)
    ]  # fmt: skip
    best = max(theirs, key=lambda one: one.rate)
    again = [
        timed(
            f"generate, {name}", best.batch, rounds,
            lambda s=by_length: keep("generate", transformers_generate(backbone, prompts, best.batch or 1, most, s)),
        )
        for name, by_length in (("best batch", False), ("sorted", True))
    ]  # fmt: skip
    lines += [ours, first, sampled, answered, *quick, *theirs, *again]

    rate = max(one.rate for one in reading)
    generate = max(best.rate, again[0].rate)
    lengths = [len(prompt) for prompt in prompts]
    report = {
        "backbone": Path(backbone.name).name,
        "users": len(prompts),
        "prompt_tokens": {"mean": sum(lengths) / len(lengths), "least": min(lengths), "most": max(lengths)},
        "clock": options.clock,
        "over_generate": ours.rate / generate,
        "over_generate_sorted": ours.rate / again[1].rate,
        "grounded_over_free": ours.seconds / answered.seconds,
        "int8_over_generate": quick[0].rate / generate if quick else None,
        "int8_grounded_over_free": quick[0].seconds / quick[1].seconds if quick else None,
        "int8_rows_as_float32": sum(map(eq, kept["engine"], kept.get("int8", kept["engine"]))) if quick else None,
        "over_prefill": ours.rate / rate,
        "over_prefill_without_reading": (ours.tokens - first.tokens) / (ours.seconds - first.seconds) / rate,
        "over_prefill_with_prompt_tokens": (ours.tokens + sum(lengths)) / ours.seconds / rate,
        "different_rows": {
            name: sum(a != b for a, b in zip(kept["engine"], kept[name], strict=True))
            for name in kept
            if name.startswith("generate")
        },
        "lines": [{**asdict(one), "rate": one.rate} for one in lines],
        **machine(),
    }
    print(
        f"\n{report['over_generate']:.1f} times model.generate at its best batch size, {report['over_generate_sorted']:.1f} "
        f"times with sorted prompts; new tokens/s over prefill tokens/s {report['over_prefill']:.2f}, without the reading "
        f"of prompts {report['over_prefill_without_reading']:.2f}; prompt and new tokens/s over it "
        f"{report['over_prefill_with_prompt_tokens']:.2f}; rows that differ from generate: {report['different_rows']}"
    )
    write_json(options.out / f"generation-{Path(backbone.name).stem}.json", report)


if __name__ == "__main__":
    main()
