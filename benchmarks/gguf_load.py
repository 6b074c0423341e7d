"""How long a GGUF file takes to load, and how much memory: transformers' way each time, and ours the first time and later.

    python benchmarks/gguf_load.py FILE.gguf [--out=benchmarks/results/gguf_load.json]

Each way is a process of its own, one after the other: config, tokenizer and float32 weights, as a command asks for them. Seconds are
those of the processor, memory is the highest that the process had, minus what it had before it loaded anything.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import RESULTS_DIR, new_parser, table_head, table_row, write_json

TIME = "two minutes"
RESULTS = {"benchmarks/results/gguf_load.json": "python benchmarks/gguf_load.py FILE.gguf"}
WAYS = ("transformers, each time", "ours, the first time", "ours, later")


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load(path: Path, way: str) -> dict[str, float]:
    """Loads the file in this process."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from rporec_recbole.backbone.dequantized import dequantized

    before, start = megabytes(), time.process_time()
    theirs = way == WAYS[0]
    where = (
        {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        if theirs
        else {"pretrained_model_name_or_path": str(dequantized(path))}
    )
    AutoConfig.from_pretrained(**where)
    AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    seconds = time.process_time() - start
    weights = sum(one.numel() for one in model.parameters()) / 1e6
    return {"seconds": seconds, "megabytes": megabytes() - before, "millions of weights": weights}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.gguf")
    parser.add_argument("--out", type=Path, default=RESULTS_DIR / "gguf_load.json")
    parser.add_argument("--way", choices=WAYS, help="load it in this process and print the figures as JSON")
    options = parser.parse_args()
    path = options.file.absolute()
    if options.way:
        print(json.dumps(load(path, options.way)))
        return

    done: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as home:
        for way in WAYS:
            called = [sys.executable, __file__, str(path), f"--way={way}"]
            told = subprocess.run(
                called, env={**os.environ, "HF_HOME": home}, stdout=subprocess.PIPE, text=True, check=True
            )
            done[way] = json.loads(told.stdout.splitlines()[-1])
    print(table_head("way", "seconds", "of transformers'", "MB", "of transformers'"))
    first = done[WAYS[0]]
    for way, found in done.items():
        shares = [found[name] / first[name] for name in ("seconds", "megabytes")]
        print(
            table_row(
                way, f"{found['seconds']:.1f}", f"{shares[0]:.2f}", f"{found['megabytes']:.0f}", f"{shares[1]:.2f}"
            )
        )
    write_json(options.out, {path.name: done})
    print(f"Written to {options.out}")


if __name__ == "__main__":
    main()
