#!/usr/bin/env bash
# implicit 0.7.3: `precision_at_k` (and `precision` of `ranking_metrics_at_k`) divides by min(k, targets) and not by k, and over all users at
# once. Where each user has one target it is therefore the hit rate: three users of four found in ten places have .75, where ten places a user
# and three hits make .075. And it is no mean over users: one user with ten hits of ten and one with none have .91, not .50, while `ndcg` and
# `map` of the same call are means over users. A leave-one-out table with a column from this package and one from another is off by a factor k.
#
# Seen: one target each .7500 (ndcg .4190), ten targets and one .9091 (ndcg .5000)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet implicit==0.7.3 numpy==2.4.6 scipy==1.17.1
cd "$folder"
cat > probe.py <<'PYTHON'
import sys

import numpy as np
from implicit.evaluation import precision_at_k, ranking_metrics_at_k
from scipy.sparse import csr_matrix


class Fixed:
    """Lists items 0, 1, 2, ... for everybody."""

    def recommend(self, users, user_items, N=10, **_):
        shape = (len(np.atleast_1d(users)), 1)
        return np.tile(np.arange(N, dtype=np.int32), shape), np.tile(np.arange(N, 0, -1, dtype=np.float32), shape)


def table(pairs):
    rows, columns = zip(*pairs)
    return csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(4, 30))


train = table([(user, 20 + user) for user in range(4)])
found = []
for targets in (table([(0, 0), (1, 4), (2, 9), (3, 25)]), table([(0, item) for item in range(10)] + [(1, 25)])):
    values = ranking_metrics_at_k(Fixed(), train, targets, K=10, show_progress=False)
    assert precision_at_k(Fixed(), train, targets, K=10, show_progress=False) == values["precision"]
    found += [round(float(values[name]), 4) for name in ("precision", "ndcg")]
print(*(f"{value:.4f}" for value in found))
sys.exit(0 if found == [0.75, 0.419, 0.9091, 0.5] else 1)
PYTHON
env/bin/python probe.py
