#!/usr/bin/env bash
# recbole 1.2.1: `eval_args.split: {TS: [0.8, 0.1, 0.1]}`, its split by time, has one cut in time for the test part alone. Training and validation are cut for
# each user at a share of that user's own interactions: rows of validation lie before rows of training, so what validation chooses has learned
# from its future. Ratios by time without groups, {RS: [0.8, 0.1, 0.1]} with `group_by: none` and `order: TO`, have both cuts in time.
#
# Seen, ten interactions a user, one user after the other in time: TS trains up to time 43 and validates from time 8 on; RS trains up to 39
# and validates from 40 on.
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
from recbole.data import create_dataset

os.makedirs("data/small", exist_ok=True)
with open("data/small/small.inter", "w") as file:
    file.write("user_id:token\titem_id:token\ttimestamp:float\n")
    for time in range(50):
        file.write(f"u{time // 10}\ti{time % 7}\t{time}\n")


def times(split, group):
    given = {"data_path": "data", "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    given["eval_args"] = {"split": split, "order": "TO", "group_by": group, "mode": "full"}
    parts = create_dataset(Config(model="BPR", dataset="small", config_dict=given)).build()
    return [sorted(int(time) for time in part.inter_feat["timestamp"].tolist()) for part in parts]


for name, split, group in (("TS", {"TS": [0.8, 0.1, 0.1]}, "user"), ("RS", {"RS": [0.8, 0.1, 0.1]}, "none")):
    train, valid, test = times(split, group)
    print(f"{name}: trains up to {train[-1]}, validates from {valid[0]} to {valid[-1]}, tests from {test[0]} on")
PYTHON
found=$("$folder/env/bin/python" -W ignore probe.py 2> "$folder/errors" | grep -E "^(TS|RS): ") || { cat "$folder/errors"; exit 1; }
echo "$found"
grep -q "^TS: trains up to 43, validates from 8 " <<< "$found"
grep -q "^RS: trains up to 39, validates from 40 to 44, tests from 45 on" <<< "$found"
