#!/usr/bin/env bash
# safetensors 0.8.0 with torch 2.13.0: `safe_open(path, framework="pt")` opens the path twice, once for the header and once for the
# numbers. Replacing a file in one step (`os.replace`) is therefore not enough for its readers: between the two another process may
# have put a new file there. Then the reader gets the header of the old file and the numbers of the new one.
#
# Two whole, valid files take each other's place. Of one size: metadata say `1`, the tensor says `2`, without an error. Of two sizes:
# "size ... is smaller than the required mapping size". Reading the bytes once (`safetensors.torch.load`) never mixes.
#
# Seen: mixed without an error: True; mixed sizes raise: True; read at once, mixed: 0 of 20000; opened 2 times (where strace is)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "torch==2.13.0" "safetensors==0.8.0" numpy packaging
cd "$folder"
cat > probe.py <<'PYTHON'
import os, subprocess, sys, time
import torch
from safetensors import safe_open
from safetensors.torch import load, save_file

SIZES = {"same": (40_000, 40_000), "two": (40_000, 90_000)}
REPLACE = """
import os, shutil, sys, time
end = time.time() + 60
while time.time() < end:
    for number in (1, 2):
        shutil.copyfile(f"{number}.safetensors", "growing")
        os.replace("growing", "now.safetensors")
"""


def replaced(sizes):
    for number, size in zip((1, 2), sizes):
        save_file({"a": torch.full((size,), float(number))}, f"{number}.safetensors", {"number": str(number)})
    save_file({"a": torch.full((sizes[0],), 1.0)}, "now.safetensors", {"number": "1"})
    return subprocess.Popen([sys.executable, "-c", REPLACE])


mixed = raised = False
process = replaced(SIZES["same"])
end = time.time() + 55
while time.time() < end and not mixed:
    with safe_open("now.safetensors", framework="pt") as file:
        mixed = float(file.get_tensor("a")[0]) != float(file.metadata()["number"])
wrong = 0
for _ in range(20_000):
    data = open("now.safetensors", "rb").read()
    wrong += f'"number":"{load(data)["a"][0]:.0f}"'.encode() not in data[:400]
process.kill()
process.wait()
process = replaced(SIZES["two"])
end = time.time() + 55
while time.time() < end and not raised:
    try:
        with safe_open("now.safetensors", framework="pt") as file:
            file.get_tensor("a")
    except RuntimeError as error:
        raised = "smaller than the required mapping size" in str(error)
process.kill()
process.wait()
print(f"mixed without an error: {mixed}; mixed sizes raise: {raised}; read at once, mixed: {wrong} of 20000")
sys.exit(0 if mixed and raised and wrong == 0 else 1)
PYTHON
env/bin/python probe.py
if command -v strace > /dev/null; then
    env/bin/python -c 'import torch, safetensors.torch as s; s.save_file({"a": torch.zeros(3)}, "one.safetensors")'
    strace -f -e trace=openat -o trace env/bin/python -c 'from safetensors import safe_open; safe_open("one.safetensors", framework="pt").get_tensor("a")'
    echo "opened $(grep -c 'one.safetensors' trace) times"
fi
