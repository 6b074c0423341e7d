#!/usr/bin/env bash
# recbole 1.2.1: a column of numbers that a feature model is told to read (`selected_features` of SASRecF and GRU4RecF, `load_col` of FM and the other
# context-aware models) is left out without a word unless `numerical_features` lists it too, which is empty by default. The model is built
# without weights for it, trains, and is evaluated; other prices change no score.
#
# Seen: SASRecF reads genre alone of [genre, price], and both with numerical_features; FM has 3 fields without and 4 with it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --no-deps recbole==1.2.1
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==1.26.4 scipy==1.13.1 pandas==2.2.3 scikit-learn==1.5.2 colorlog==4.7.2 colorama==0.4.4 \
    tensorboard tqdm pyyaml texttable psutil tabulate thop
cd "$folder"
cat > probe.py <<'PYTHON'
import os, sys, types
import numpy as np
np.float, np.bool8, np.object = float, np.bool_, object  # names that recbole 1.2.1 still asks for
ray = types.ModuleType("ray")
ray.tune = types.ModuleType("ray.tune")  # recbole imports it and needs it for searches alone
sys.modules.update({"ray": ray, "ray.tune": ray.tune})
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model

os.makedirs("data/small", exist_ok=True)
with open("data/small/small.inter", "w") as file:
    file.write("user_id:token\titem_id:token\ttimestamp:float\tlabel:float\n")
    for user in range(6):
        for step in range(9):
            file.write(f"u{user}\ti{(3 * user + step) % 20}\t{step}\t{step % 2}\n")
with open("data/small/small.item", "w") as file:
    file.write("item_id:token\tgenre:token\tprice:float\n")
    for item in range(20):
        file.write(f"i{item}\tg{item % 3}\t{item}.5\n")


def built(model, numbers, **more):
    columns = {"inter": ["user_id", "item_id", "timestamp", "label"], "item": ["item_id", "genre", "price"]}
    given = {"data_path": "data", "load_col": columns, **more, **({"numerical_features": ["price"]} if numbers else {})}
    config = Config(model=model, dataset="small", config_dict=given)
    train = data_preparation(config, create_dataset(config))[0]
    return get_model(model)(config, train.dataset)


def read(model):
    layer = model.feature_embed_layer
    return sorted([*(layer.token_field_names["item"] or []), *(layer.float_field_names["item"] or [])])


sequential = {"selected_features": ["genre", "price"], "train_neg_sample_args": None}
seen = {
    "SASRecF": [read(built("SASRecF", numbers, **sequential)) for numbers in (False, True)],
    "FM": [built("FM", numbers).num_feature_field for numbers in (False, True)],
}
print(seen)
sys.exit(0 if seen == {"SASRecF": [["genre"], ["genre", "price"]], "FM": [3, 4]} else 1)
PYTHON
env/bin/python probe.py 2> stderr.txt || { tail -3 stderr.txt; exit 1; }
