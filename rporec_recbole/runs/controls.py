"""Controls: is it the reasoning that helps? What else could have, evaluated on the test split beside the full model.

Every control ranks the same test rows with the trunk of the run, but for `trunk alone` and `two trunks`, where a trunk of another seed
stands in the place of the language model: a second expert of any kind helps, and that is not the reasoning's gain. Where other text is read in place of
the reasoning, a new fusion is fitted to it, from zero and by the recipe of stage 1c, so that it has the same chance. A fusion reads
the history's own text too (`fusion_reads_history`), in all controls but `no CoT` and `trunk alone`: the gain over those two is that of
both texts, and the gain over `empty text`, where nothing else changes, is the reasoning's.

`oracle 10 %` is the positive control: texts that name the true next item of one user in ten. Where even these move nothing, the head
cannot hear, and "no gain" says nothing about the reasoning.

controls.parquet    control, and what `ranks.parquet` has of the test split
controls.json       the table
controls.png        the differences with their intervals
controls/           what the controls are made of
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rporec_recbole.backbone.load import load_backbone
from rporec_recbole.cot.reasoner import Reasoner
from rporec_recbole.cot.substitutes import AnotherUsers, BareHistory, Without
from rporec_recbole.data.files import write_json, write_table
from rporec_recbole.errors import ConfigError, RunFolderError, did_you_mean
from rporec_recbole.evaluation.plots import plot_intervals
from rporec_recbole.evaluation.ranks import together, user_values, with_lists
from rporec_recbole.evaluation.significance import Interval, effect_size, holm, paired_bootstrap, paired_randomization
from rporec_recbole.host.bridge import build_trainer
from rporec_recbole.runs.finished import LoadedRun, check_rporec, load_run
from rporec_recbole.runs.folder import logging_to, read_results
from rporec_recbole.runs.oracle import oracle_of
from rporec_recbole.runs.refit import ranks_with, reasoner_of, refitted
from rporec_recbole.runs.trunks import ranks_of_trunk_alone, ranks_of_two_trunks
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.training.state import checkpoint

FULL, ORACLE = "RPORec", "oracle 10 %"
RANKS, TABLE, PLOT = "controls.parquet", "controls.json", "controls.png"
METRICS = ("ndcg@10", "hit@10")


class Contrast(NamedTuple):
    """One control beside the full model.

    Attributes:
        control: its name.
        means: metric -> RecBole's mean over the ranked lists.
        differences: metric -> full model minus control, paired over users, with its 95 % interval.
        p: metric -> p-value of a paired randomization test.
        p_holm: the same, adjusted for all controls of the table (Holm, 1979).
        effect: metric -> Cohen's d of the paired differences.
    """

    control: str
    means: dict[str, float]
    differences: dict[str, Interval]
    p: dict[str, float]
    p_holm: dict[str, float]
    effect: dict[str, float]


def check_controls(stages: list[str], ids_only: bool) -> None:
    """Refuses controls for a run without reasoning.

    Raises:
        ConfigError: stage 1c does not run.
    """
    if ids_only or "1c" not in [str(stage) for stage in stages]:
        raise ConfigError(
            "`controls` ask what reasoning is worth, and this run has none: stage 1c must be among `stages`, and `ids_only` off."
        )


def run_controls(path: str | Path, only: Sequence[str] | None = None, **places: str | None) -> list[Contrast]:
    """Evaluates every control on the test split of a finished RPORec run, and writes table, ranks and plot into its folder.

    Args:
        path: the run folder.
        only: names of controls, which are added to those that the folder has or take their place; None evaluates all that the
            run allows.
        places: what moved since, as for `load_run`.

    Returns:
        the full model first, then the controls.

    Raises:
        RunFolderError: there is no finished run.
        ConfigError: the run has no reasoning, or a control does not exist there.
    """
    folder = Path(path)
    written = check_rporec(folder, "a table of controls")
    check_controls(written["stages"], written["ids_only"])
    if not os.access(folder, os.W_OK):
        raise RunFolderError(
            f"Controls are written into the folder of their run, and {folder} cannot be written. Copy the run, or give yourself the right to."
        )
    loaded = load_run(folder, **places)
    controls = _controls(loaded)
    for name in only or ():
        if name not in controls:
            names = ", ".join(f"`{one}`" for one in controls if one != FULL)
            raise ConfigError(f"This run has no control `{name}`.{did_you_mean(name, controls)} It has {names}.")
    known = list(controls)
    if only is not None:
        controls = {name: ranks for name, ranks in controls.items() if name == FULL or name in only}
    tables = [] if only is None else _others(folder, controls)
    for name, ranks in progress_bar(controls.items(), desc="controls", unit="control"):
        logging.getLogger().info(f"control: {name}")
        tables.append(ranks().assign(control=name))
    table = together(tables)
    order = {name: place for place, name in enumerate(known)}
    table = table.sort_values("control", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    write_table(folder / RANKS, table)
    contrasts = contrasts_of(table)
    facts = {
        one.control: {
            "mean": one.means,
            f"{FULL} minus it": {metric: interval._asdict() for metric, interval in one.differences.items()},
            "p": one.p,
            "p (Holm)": one.p_holm,
            "d": one.effect,
        }
        for one in contrasts
    }
    write_json(folder / TABLE, facts)
    title = f"{written['dataset']}, test, seed {written['seed']}: NDCG@10 of {FULL} minus each control, 95 % intervals"
    bars = {one.control: one.differences[METRICS[0]] for one in contrasts[1:]}
    plot_intervals(bars, title).savefig(folder / PLOT, dpi=110)
    loaded.model.reasoner.store.close()
    return contrasts


def _others(folder: Path, now: Collection[str]) -> list[pd.DataFrame]:
    """The controls that stand in the folder already, those without that are evaluated now.

    Raises:
        RunFolderError: their file is damaged.
    """
    if not (folder / RANKS).is_file():
        return []
    try:
        table = pd.read_parquet(folder / RANKS)
        return [table[~table["control"].isin(list(now))]]
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(
            f"{folder / RANKS} cannot be read ({error}). Delete it, and `rporec controls {folder}` makes all of them anew."
        ) from error


def contrasts_of(table: pd.DataFrame) -> list[Contrast]:
    """Paired statistics over users.

    Args:
        table: `control` and the columns of `ranks.rank_table`, in any order. Where a row of a control stands several times, as in the
            tables of several seeds put together, the metrics of its user are averaged first.

    Raises:
        ConfigError: a control lacks rows that the full model has, those of a seed for example: they would not be pairs.
    """
    table = with_lists(table)
    times = table.groupby(["control", "user_id", "item_id"]).size()
    mean, found = {}, []
    for name, rows in table.groupby("control"):
        mean[name] = {metric: user_values(rows, metric) for metric in METRICS}
    for name in table["control"].unique():
        ranked, wanted = times.xs(name), times.xs(FULL)
        if not ranked.equals(wanted):
            raise ConfigError(
                f"The control `{name}` has {ranked.sum():,} ranks and `{FULL}` {wanted.sum():,}, so they are no pairs. Run it "
                f"for every seed (`rporec controls RUN --only='{name}'`), or leave it out of the table."
            )
        pairs = {
            metric: (mean[FULL][metric]["value"].to_numpy(), one["value"].to_numpy())
            for metric, one in mean[name].items()
        }
        lists = mean[FULL][METRICS[0]]["lists"].to_numpy()
        found.append(
            Contrast(
                str(name),
                {metric: float(np.average(its, weights=lists)) for metric, (_, its) in pairs.items()},
                {metric: paired_bootstrap(*pair, weights=lists) for metric, pair in pairs.items()},
                {metric: paired_randomization(*pair, weights=lists) for metric, pair in pairs.items()},
                {},
                {metric: effect_size(*pair, lists) for metric, pair in pairs.items()},
            )
        )
    for metric in METRICS:
        others = [one for one in found if one.control != FULL]
        for one, p in zip(others, holm([one.p[metric] for one in others]), strict=True):
            one.p_holm[metric] = p
    return found


def table_of(contrasts: list[Contrast]) -> str:
    """The table for a terminal."""
    width = max(len(one.control) for one in contrasts) + 2
    title = f"{FULL} minus it, NDCG@10 [95 %]"
    lines = [f"{'test':<{width}}{'NDCG@10':>9}{'HR@10':>9}   {title:<30}{'p':>6}{'p (Holm)':>10}{'d':>7}"]
    for one in contrasts:
        line = f"{one.control:<{width}}{one.means['ndcg@10']:>9.4f}{one.means['hit@10']:>9.4f}"
        if one.control != FULL:
            gap = one.differences["ndcg@10"]
            difference = f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
            line += f"   {difference:<30}{one.p['ndcg@10']:>6.3f}{one.p_holm['ndcg@10']:>10.3f}{one.effect['ndcg@10']:>+7.3f}"
        lines.append(line)
    return "\n".join(lines)


def _controls(loaded: LoadedRun) -> dict[str, Callable[[], pd.DataFrame]]:
    """Name -> what gives its test ranks."""
    model, stages = loaded.model, loaded.model.settings.stage.stages
    after = model.reasoner
    users = loaded.loaders["test"].dataset.inter_feat

    def anothers() -> AnotherUsers:
        owners = users[loaded.dataset.uid_field].tolist()
        return AnotherUsers(after, users[model.ITEM_SEQ].tolist(), model.ratings_of(users), model.seed, owners)

    controls: dict[str, Callable[[], pd.DataFrame]] = {
        FULL: lambda: ranks_with(loaded, after),
        "no CoT": lambda: ranks_with(loaded, None),
        "trunk alone": lambda: ranks_of_trunk_alone(loaded),
        "two trunks": lambda: ranks_of_two_trunks(loaded),
        "another user's CoT": lambda: ranks_with(loaded, anothers()),
        "history text": lambda: refitted(loaded, lambda reasoner: BareHistory(reasoner.template)),
        "answer only": lambda: refitted(loaded, lambda reasoner: Without(reasoner, "cot")),
        ORACLE: lambda: refitted(loaded, lambda reasoner: oracle_of(loaded, 0.1, reasoner=reasoner)),
    }
    if model.head.read_history(users[model.ITEM_SEQ][:1].to(model.device)) is not None:
        controls["empty text"] = lambda: refitted(loaded, lambda reasoner: Without(reasoner, "cot", "answer"))
    if "2" in stages:
        before = reasoner_of(loaded, checkpoint.BEFORE_RL)
        if before is None:
            logging.getLogger().warning(
                "two controls of stage 2 are left out: the backbone before it is kept only by runs with controls=True"
            )
        else:
            controls["stage 1 without stage 2"] = lambda: _without_stage_2(loaded, before)
            if "2b" in stages:
                controls["stage 2 without re-alignment"] = lambda: refitted(
                    loaded, lambda reasoner: reasoner, fitted_to=lambda reasoner: before
                )
    return controls


def _without_stage_2(loaded: LoadedRun, before: Reasoner) -> pd.DataFrame:
    """Ranks with what the backbone wrote before stage 2.

    Where the run's own backbone has read the later histories since, this one reads them too: the difference shall be stage 2 alone.
    """
    refreshed = read_results(loaded.run_dir)[0]["stages"].get("refresh", {}).get("backbone", {}).get("kept", False)
    if not refreshed:
        return refitted(loaded, lambda reasoner: before)
    name, model = f"{checkpoint.BEFORE_RL}-refreshed", loaded.model
    if not (loaded.run_dir / name).is_dir():
        own = model.backbone, model.reasoner
        kept = loaded.run_dir / checkpoint.BEFORE_RL
        model.connect(load_backbone(kept, model.settings.backbone, torch.device(model.device)), own[1].store)
        with logging_to(None):
            trainer = build_trainer(loaded.config, model)
            trainer.backbone_stages.read_later_histories(loaded.loaders["train"].dataset)
            trainer.tensorboard.close()
        model.backbone.save(loaded.run_dir / name)
        model.backbone, model.reasoner = own
    shown = reasoner_of(loaded, name)
    return refitted(loaded, lambda reasoner: shown or before, fitted_to=lambda reasoner: before)
