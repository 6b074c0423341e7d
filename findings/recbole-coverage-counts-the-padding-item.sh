#!/usr/bin/env bash
# recbole 1.2.1: `ItemCoverage` and `GiniIndex` take the number of items from `dataset.num`, which counts the padding item 0 as well, and
# that one is never recommended. So a system that shows every item equally often covers less than all of them, and its Gini index is
# not 0. The smaller the catalogue, the more: with 9 items .9 in place of 1, and .1 in place of 0. Figures of RecBole and of other
# libraries cannot stand side by side.
#
# Seen: 9 items, all shown equally often: coverage .9 (expected 1), Gini .1 (expected 0)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --no-deps recbole==1.2.1
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==1.26.4 scipy==1.13.1 pandas==2.2.3 scikit-learn==1.5.2 colorlog==4.7.2 colorama==0.4.4 \
    tensorboard tqdm pyyaml texttable psutil tabulate thop
cd "$folder"
mkdir -p data/tiny
cat > probe.py <<'PYTHON'
import sys
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.evaluator import Collector
from recbole.evaluator.metrics import GiniIndex, ItemCoverage

with open("data/tiny/tiny.inter", "w") as file:
    file.write("user_id:token\titem_id:token\ttimestamp:float\n")
    for user in range(9):
        for step in range(6):
            file.write(f"u{user}\ti{(user + step) % 9}\t{step}\n")
sys.argv = sys.argv[:1]
config = Config(model="BPR", dataset="tiny", config_dict={
    "data_path": "data", "topk": [3], "metrics": ["ItemCoverage", "GiniIndex"], "valid_metric": "ItemCoverage@3",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
})
dataset = create_dataset(config)
train, _, _ = data_preparation(config, dataset)
collector = Collector(config)
collector.data_collect(train)
collector.data_struct.set("rec.items", (torch.arange(27).remainder(9) + 1).view(9, 3))
coverage = ItemCoverage(config).calculate_metric(collector.data_struct)["itemcoverage@3"]
gini = GiniIndex(config).calculate_metric(collector.data_struct)["giniindex@3"]
print(f"9 items, all shown equally often: coverage {coverage} (expected 1), Gini {gini} (expected 0)")
sys.exit(0 if (coverage, gini) == (0.9, 0.1) else 1)
PYTHON
env/bin/python probe.py
