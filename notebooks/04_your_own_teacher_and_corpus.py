# %% [markdown]
# # Your own teacher, your own texts
#
# You can use any OpenAI-compatible endpoint and any texts. To run anywhere, this notebook serves the simulated teacher
# over HTTP. Replace its address and model with your own, and put the key into `OPENAI_API_KEY`.

# %%
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from personahub.commands.cli import main
from personahub.core.artifact import open_artifact

root = Path.cwd() if Path("configs").is_dir() else Path.cwd().parent
work = Path(tempfile.mkdtemp())
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
command = [sys.executable, "-m", "synth.simulated.serve", "--port", str(port)]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
print(server.stdout.readline())  # the server is ready
base_url = f"http://127.0.0.1:{port}/v1"

# %% [markdown]
# Texts are JSON lines with a `text` field. Folders, Parquet files and data sets on the hub work as well
# (docs/your_own.md).

# %%
texts = [
    "The night shift of the sorting office starts at ten. Letters for the islands leave with the ferry at five.",
    "We re-glaze the south side of the palm house every eleven years; each pane is cut by hand to the iron it sits in.",
    "Our choir tunes to the wheezing organ of the chapel, so the tenors learn every piece a little flat.",
]
(work / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
words = [
    str(root / "configs" / "quickstart.yaml"),
    "experiment=mine",
    f"stages.sources.config.path={work / 'texts.jsonl'}",
    "engines.teacher.kind=openai",
    "engines.teacher.model=simulated-teacher",
    f"engines.teacher.base_url={base_url}",
    "stages.related_personas.config.max_new=20",
]
folder = ["--runs", str(work / "runs")]

# %% [markdown]
# First print the forecast, then run the stages up to the verified problems.

# %%
main(["plan", *words, *folder])

# %%
main(["run", *words, *folder, "--only", "verified"])
server.terminate()

# %%
for row in list(open_artifact(work / "runs" / "mine" / "verified").rows())[:3]:
    print(row["problem"])
    print("   answer", row["answer"], "by", row["solution_model"])
