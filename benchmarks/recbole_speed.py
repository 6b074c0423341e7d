"""How much faster RecBole's sequential models train and rank without padding (`short_rows`), in how much memory, with which ranks.

    python benchmarks/recbole_speed.py --dataset=amazon-beauty --data_path=DIR [--models=SASRec,GRU4Rec] [--length=50] [--rounds=2]
    python benchmarks/recbole_speed.py --ranks [--epochs=5] [--length=20] [--models=GRU4Rec]

The first measures one training epoch and one evaluation, in processes of their own and in turn: `never` is RecBole's own way (rows stored and padded),
`always` without padding, `exact` as it is without any setting, and `like` lays rows of like length into one batch, which the harness does not do. Processor
seconds, user and system together: set OMP_NUM_THREADS=1 where others use the machine. The best of the rounds counts.

--ranks trains to the end, with the model's own dropout and with none, and counts the targets that got the rank that RecBole's own way gives them; another
seed of RecBole's own way stands beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

from harness import add_data, machine, names, new_parser, own_process, table_head, table_row, write_json

TIME = "half an hour"
RESULTS = {
    "benchmarks/results/recbole_speed-amazon-beauty.json": "python benchmarks/recbole_speed.py --dataset=amazon-beauty --batches=16; copied from --out",
    "benchmarks/results/recbole_speed-ml-100k.json": "python benchmarks/recbole_speed.py --dataset=ml-100k --batches=5; GRU4Rec again with --rounds=2; copied from --out",
}
VARIANTS = ("never", "always", "exact", "like")
RECBOLES: dict[str, dict[str, Any]] = {
    "SASRec": {"hidden_dropout_prob": 0.5, "attn_dropout_prob": 0.5, "train_batch_size": 2048},
    "GRU4Rec": {"dropout_prob": 0.3, "num_layers": 1, "train_batch_size": 2048},
}
"""RecBole's own defaults, where `properties/model/` has what was tuned for a data set."""
NO_DROPOUT = {
    "SASRec": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    "GRU4Rec": {"dropout_prob": 0.0},
}


class Batches:
    """The first batches of RecBole's loader, or batches of rows of like length, in a random order: that is another training.

    Args:
        loader: RecBole's.
        number: of batches at most.
        like: whether rows of like length make a batch.
    """

    def __init__(self, loader: Any, number: int, like: bool) -> None:
        self._loader, self._number, self._like = loader, number, like
        self.dataset = loader.dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return min(self._number, len(self._loader))

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self._of_like_length() if self._like else self._loader, self._number)

    def _of_like_length(self) -> Iterator[Any]:
        import torch

        lengths = self.dataset.inter_feat[self.dataset.item_list_length_field]
        mixed = torch.randperm(len(lengths), generator=self._loader.generator)
        batches = mixed[lengths[mixed].argsort(stable=True)].split(self._loader.step)
        for batch in torch.randperm(len(batches), generator=self._loader.generator).tolist():
            yield self._loader.collate_fn(batches[batch].tolist())


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Processor seconds of making the data, of an epoch and of an evaluation, and the peak memory of this process in GB."""
    (model,), variant = options.models, options.part
    import logging

    from rporec_recbole.host.bridge import build_config, build_model, build_trainer
    from rporec_recbole.host.data import build_data
    from rporec_recbole.host.ranked import RankCollector, evaluated

    logging.disable(logging.INFO)
    place = {"data_path": options.data_path} if options.data_path else {}
    own = {**RECBOLES[model], "MAX_ITEM_LIST_LENGTH": options.length, "epochs": 1, "show_progress": False}
    choice = {"short_rows": "always" if variant == "like" else variant}
    config = build_config(model, options.dataset, overrides={**place, **own, **choice})
    with tempfile.TemporaryDirectory() as scratch:
        config["checkpoint_dir"] = scratch
        start = process_time()
        data, train, _, test = build_data(config)
        made = process_time()
        trainer = build_trainer(config, build_model(config, train))
        trainer.eval_collector = RankCollector(config, data)
        begun = process_time()
        trainer.fit(Batches(train, options.batches, variant == "like"), saved=False)
        trained, of_epoch = process_time(), peak_gb()
        metrics, _ = evaluated(trainer, test, "test", best=False)
        ranked = process_time()
        trainer.tensorboard.close()
    return {
        "data": made - start,
        "epoch": trained - begun,
        "evaluation": ranked - trained,
        "peak_gb_epoch": of_epoch,
        "peak_gb": peak_gb(),
        "loss": trainer.train_loss_dict[0],
        "ndcg@10": metrics["ndcg@10"],
    }


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def speed(options: argparse.Namespace) -> dict[str, Any]:
    report: dict[str, Any] = {}
    print(f"{options.dataset}, length {options.length}\n")
    print(
        table_head("model", "short_rows", "data", "epoch", "evaluation", "epoch, ratio", "peak GB", "ratio", "NDCG@10")
    )
    shared = [f"--dataset={options.dataset}", f"--length={options.length}", f"--batches={options.batches}"]
    shared += [f"--data_path={options.data_path}"] if options.data_path else []
    for model in options.models:
        found: dict[str, list[dict[str, float]]] = {variant: [] for variant in options.variants}
        for _ in range(options.rounds):
            for variant in options.variants:
                found[variant].append(own_process(__file__, *shared, f"--models={model}", f"--part={variant}"))
        best = {
            variant: {key: min(one[key] for one in rounds) for key in rounds[0]} for variant, rounds in found.items()
        }
        report[model] = best
        stock = best.get("never", {})
        for variant, one in best.items():
            faster, smaller = stock.get("epoch", 0) / one["epoch"], one["peak_gb"] / stock.get("peak_gb", 1)
            seconds = [f"{one[key]:.1f}" for key in ("data", "epoch", "evaluation")]
            shares = [f"{faster:.2f}", f"{one['peak_gb']:.2f}", f"{smaller:.2f}", f"{one['ndcg@10']:.4f}"]
            print(table_row(model, variant, *seconds, *shares), flush=True)
    return report


def ranks(options: argparse.Namespace) -> dict[str, Any]:
    import logging

    from rporec_recbole import run
    from rporec_recbole.runs.folder import read_results

    logging.disable(logging.INFO)
    place = {"data_path": options.data_path} if options.data_path else {}
    own = {"MAX_ITEM_LIST_LENGTH": options.length, "epochs": options.epochs, "show_progress": False, **place}
    report: dict[str, Any] = {}
    print(table_head("model", "dropout", "short_rows", "seed", "test NDCG@10", "ranks as RecBole's own way"))
    for model in options.models:
        for dropout, off in (("its own", {}), ("none", NO_DROPOUT[model])):
            with tempfile.TemporaryDirectory() as folder:
                stock = None
                for number, (choice, seed) in enumerate(
                    [("never", 2020), ("exact", 2020), ("always", 2020), ("never", 2021)]
                ):
                    settings = {**RECBOLES[model], **own, **off, "short_rows": choice, "seed": seed}
                    done = run(
                        model, options.dataset, overrides={**settings, "run_dir": str(Path(folder, str(number)))}
                    )
                    metrics, table = read_results(done.run_dir)
                    found = table[table["split"] == "test"].sort_values(["user_id", "item_id"])["rank"].to_numpy()
                    stock = found if stock is None else stock
                    same, value = float((found == stock).mean()), metrics["test"]["ndcg@10"]
                    report[f"{model}, dropout {dropout}, {choice}, {seed}"] = {"ndcg@10": value, "same_ranks": same}
                    print(table_row(model, dropout, choice, seed, f"{value:.4f}", f"{100 * same:.1f} %"), flush=True)
    return report


def main() -> None:
    parser = new_parser(__doc__)
    add_data(parser, "ml-100k")
    parser.add_argument("--models", type=names, default="SASRec,GRU4Rec")
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--variants", type=names, default="never,always")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batches", type=int, default=10**9, help="only so many of the epoch")
    parser.add_argument("--ranks", action="store_true", help="whole trainings instead")
    parser.add_argument("--epochs", type=int, default=5, help="of these")
    parser.add_argument("--out", default="saved/recbole_speed.json")
    parser.add_argument("--part", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measured(options)))
        return
    report = (ranks if options.ranks else speed)(options)
    write_json(options.out, {"dataset": options.dataset, "length": options.length, **report, "machine": machine()})


if __name__ == "__main__":
    main()
