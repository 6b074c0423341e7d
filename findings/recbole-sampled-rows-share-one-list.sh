#!/usr/bin/env bash
# recbole 1.2.1: a sequential model whose test part holds several rows of a user (a ratio split) is evaluated in two ways that differ in more
# than the number of candidates. With mode `full` each row is a list of its own with one target, ranked by the scores of its own history.
# With mode `uni5` all rows of a user are laid into one list with several targets: scores that were made from different histories are
# ranked against each other, and recall and hit are counted by user. So `uni` is no cheaper estimate of `full`.
#
# Seen, of 3 users with 3 rows each: full: 9 lists of one target; uni5: 3 lists of 3 targets and 18 candidates, whose scores come from 3 histories.
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
tune = types.ModuleType("ray")
tune.tune = types.ModuleType("ray.tune")  # recbole imports it and needs it for searches alone
sys.modules.update({"ray": tune, "ray.tune": tune.tune})
from recbole.config import Config
from recbole.data import create_dataset, data_preparation

os.makedirs("data/small", exist_ok=True)
with open("data/small/small.inter", "w") as file:
    file.write("user_id:token\titem_id:token\ttimestamp:float\n")
    for user in range(3):
        for step in range(16):  # 15 targets: 9 of training, 3 of validation, 3 of test
            file.write(f"u{user}\ti{(7 * user + step) % 40}\t{step}\n")

seen = {}
for mode in ("full", "uni5"):
    config = Config(model="SASRec", dataset="small", config_dict={
        "data_path": "data", "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "train_neg_sample_args": None,
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": mode},
    })
    test = data_preparation(config, create_dataset(config))[2]
    lists, targets, candidates, histories = 0, [], [], []
    for batch, _, row, target in test:
        rows = np.asarray(row)
        lists += len(np.unique(rows))
        targets += [int((rows == one).sum()) for one in np.unique(rows)]
        if mode != "full":
            users, length = batch["user_id"].numpy(), batch["item_length"].numpy()
            candidates += [int((users == one).sum()) for one in np.unique(users)]
            histories += [len(np.unique(length[users == one])) for one in np.unique(users)]
    seen[mode] = lists, set(targets), set(candidates), set(histories)
    print(mode, *seen[mode])
sys.exit(0 if seen == {"full": (9, {1}, set(), set()), "uni5": (3, {3}, {18}, {3})} else 1)
PYTHON
env/bin/python probe.py 2> /dev/null
