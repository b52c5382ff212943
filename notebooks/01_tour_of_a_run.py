# %% [markdown]
# # A tour of a run
#
# A run is a folder of artifacts: Parquet shards, rejected records with their reasons, and a manifest. You need nothing
# else to analyze it. This notebook only reads.
#
# Start Jupyter in the repository root after `make quickstart`, or set `PERSONAHUB_RUN` to the folder of another run.

# %%
import json
import os
from pathlib import Path

from personahub.core.artifact import open_artifact

try:
    import matplotlib.pyplot as plt
except ModuleNotFoundError:
    raise SystemExit("This notebook draws with matplotlib: pip install 'persona-hub-harness[notebooks]'") from None

run = Path(os.environ.get("PERSONAHUB_RUN", "runs/quickstart"))
if not run.is_dir():
    run = ".." / run  # Jupyter started in the notebook's folder
artifacts = {path.parent.name: open_artifact(path.parent) for path in sorted(run.glob("*/manifest.json"))}
for name, artifact in artifacts.items():
    counts = artifact.manifest.counts
    print(f"{name:18} {artifact.manifest.module:32} {counts.rows_in:>8,} in {counts.rows_out:>8,} out")
    for reason, number in counts.rejected.items():
        print(f"{'':18} {'rejected, ' + reason:32} {number:>8,}")

# %% [markdown]
# ## Where a problem comes from
#
# Every record names its origin: a problem names its persona, and a persona names its parent and its web text.

# %%
personas = {row["id"]: row for row in artifacts["related_personas"].rows()}
documents = {row["id"]: row for row in artifacts["sources"].rows()}
problem = next(row for row in artifacts["verified"].rows() if personas[row["persona_id"]]["hop"] > 1)

print("problem  ", problem["problem"])
print("answer   ", problem["answer"], "by", [vote["answer"] for vote in problem["votes"]])
persona = personas[problem["persona_id"]]
while True:
    print(f"hop {persona['hop']}    ", persona["persona"], f"({persona['relation']})" if persona["relation"] else "")
    if persona["parent_id"] is None:
        break
    persona = personas[persona["parent_id"]]
print("web text ", documents[persona["document_id"]]["text"][:200], "...")

# %% [markdown]
# ## Agreement of the votes

# %%
shares = [row["vote_share"] for row in artifacts["verified"].rows(["vote_share"])]
figure, axes = plt.subplots(figsize=(5, 2.5))
axes.hist(shares, bins=12)
axes.set(xlabel="share of the votes for the accepted answer", ylabel="problems")
plt.show()

# %% [markdown]
# ## Dropped records and their reasons
#
# The reason is kept together with the model's raw text.

# %%
for row in list(artifacts["good_personas"].rejected())[:5]:
    print(row["reason"], "|", row["detail"], "|", json.loads(row["record"])["persona"])
