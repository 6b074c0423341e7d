#!/usr/bin/env bash
# rectools 0.19.0: `NDCG(k=10)` of a user whose only target stands first is .2201 and not 1: it divides by the sum of all ten discounts, as if
# ten items could have been found. So a leave-one-out evaluation, where each user has one target, has values at least 4.5 times below those that
# papers print under the same name, and the larger k is the lower they get. `divide_by_achievable=True` gives the usual one; `MAP` of the same
# package is 1 for the same list.
#
# Seen: NDCG@10 .2201, NDCG@20 .1420, with divide_by_achievable 1.0000 and 1.0000, MAP@10 1.0000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet rectools==0.19.0 "pyarrow==20.0.0"
cd "$folder"
cat > probe.py <<'PYTHON'
import sys

import pandas as pd
from rectools.metrics import MAP, NDCG

target = pd.DataFrame({"user_id": [1], "item_id": [7]})
listed = pd.DataFrame({"user_id": 1, "item_id": range(7, 27), "rank": range(1, 21)})
values = [
    metric.calc(listed, target)
    for metric in (NDCG(k=10), NDCG(k=20), NDCG(k=10, divide_by_achievable=True), NDCG(k=20, divide_by_achievable=True), MAP(k=10))
]
print(*(f"{value:.4f}" for value in values))
sys.exit(0 if [round(value, 4) for value in values] == [0.2201, 0.142, 1.0, 1.0, 1.0] else 1)
PYTHON
env/bin/python probe.py
