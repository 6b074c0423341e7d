#!/usr/bin/env bash
# torch 2.13.0, `torch.nn.functional.linear_cross_entropy` on a CPU in float32: its chunks ("auto", the default of `LinearCrossEntropyOptions()`) may have
# four rows alone, so the matrix of classes is read again for each of them. Its documentation calls chunks a win where there are at
# least as many rows as features, and more classes than features. The loss over a whole catalogue or vocabulary is such a case: with 512 rows of 256
# features and 32,000 classes it takes several times as long as without chunks, for equal numbers. With `batch_chunk_size=128` it is as fast as
# without, and the memory is small all the same. Name the size of a chunk.
#
# Seen, 512 rows: auto: 128 chunks of 4 rows, 6.6 times the seconds without chunks; batch_chunk_size=128: 4 chunks, .9 times; losses agree.
# Seconds are those of the process, the least of five; the script asks for a factor of 2 at least.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "torch==2.13.0" numpy
cat > "$folder/probe.py" <<'PYTHON'
import sys
import time

import torch
from torch.nn import LinearCrossEntropyOptions as Options
from torch.nn.functional import linear_cross_entropy
from torch.profiler import ProfilerActivity, profile

torch.manual_seed(0)
torch.set_num_threads(1)
ROWS, FEATURES, CLASSES = 512, 256, 32_000
weight = torch.nn.Parameter(0.05 * torch.randn(CLASSES, FEATURES))
rows, target = torch.randn(ROWS, FEATURES), torch.randint(0, CLASSES, (ROWS,))
WAYS = {"without": None, "auto": Options(), "chunks of 128": Options(batch_chunk_size=128)}


def once(options):
    weight.grad, given = None, rows.clone().requires_grad_()
    start = time.process_time()
    loss = linear_cross_entropy(given, weight, target, options=options)
    loss.backward()
    return time.process_time() - start, loss.item()


def least_rows(options):
    """Rows of the smallest product with the whole matrix of classes."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        once(options)
    shapes = [event.input_shapes for event in seen.events() if event.name == "aten::mm"]
    return min(one[0][0] for one in shapes if len(one) > 1 and one[1] == [FEATURES, CLASSES])


seconds = {name: min(once(options)[0] for _ in range(5)) for name, options in WAYS.items()}
losses = {name: once(options)[1] for name, options in WAYS.items()}
fewest = {name: least_rows(options) for name, options in WAYS.items()}
slower = {name: seconds[name] / seconds["without"] for name in WAYS}
agree = max(losses.values()) - min(losses.values()) < 1e-4
for name in WAYS:
    print(f"{name}: products of {fewest[name]} rows at least, {slower[name]:.1f} times the seconds without chunks, loss {losses[name]:.5f}")
sys.exit(0 if agree and fewest["auto"] <= 16 and fewest["chunks of 128"] == 128 and slower["auto"] > 2 and slower["chunks of 128"] < 1.5 else 1)
PYTHON
"$folder/env/bin/python" "$folder/probe.py"
