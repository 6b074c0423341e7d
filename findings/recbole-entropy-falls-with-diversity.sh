#!/usr/bin/env bash
# recbole 1.2.1: the metric `ShannonEntropy` is divided by the number of different items that are recommended, which its formula does not
# say. So it is no entropy, and it falls where recommendations become more diverse: ten items recommended equally often score
# ln(10) / 10, a hundred of them ln(100) / 100. RecBole holds the larger value for the better one, so a search that optimises it
# ends at a model which shows everybody the same few items.
#
# Seen: 10 items .2303 (entropy 2.3026), 100 items .0461 (entropy 4.6052), bigger is better: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --no-deps recbole==1.2.1
"$folder/env/bin/pip" install --quiet torch==2.13.0 numpy==1.26.4 scipy==1.13.1 pandas==2.2.3 scikit-learn==1.5.2 colorlog==4.7.2 colorama==0.4.4 \
    tensorboard tqdm pyyaml texttable psutil tabulate thop
cd "$folder"
cat > probe.py <<'PYTHON'
import math, sys
import torch
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import ShannonEntropy

config = {"topk": [10], "metric_decimal_place": 4}
scored = {}
for different in (10, 100):
    struct = DataStruct()
    struct.set("rec.items", torch.arange(1000).remainder(different).view(100, 10) + 1)
    scored[different] = ShannonEntropy(config).calculate_metric(struct)["shannonentropy@10"]
    print(f"{different} items, each equally often: {scored[different]:.4f}; their entropy is {math.log(different):.4f}")
bigger = not ShannonEntropy.smaller
print(f"bigger is better: {bigger}")
as_seen = all(abs(value - math.log(n) / n) < 1e-4 for n, value in scored.items())
sys.exit(0 if as_seen and bigger and scored[100] < scored[10] else 1)
PYTHON
env/bin/python probe.py
