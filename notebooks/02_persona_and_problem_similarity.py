# %% [markdown]
# # Do similar personas give similar problems?
#
# Figure 10 of the paper (section 4.1.1) shows pairs of personas at a similarity of 0.4, 0.6, 0.8 and 0.9, and how
# similar their problems are. `eval.persona_pairs` finds the pairs. `eval.similarity` compares their problems and keeps
# each pair with its texts; its numbers are in the manifest. Run `make quickstart` first, or set `PERSONAHUB_RUN` to the
# folder of another run.

# %%
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
similarity = open_artifact(run / "similarity")
summary = similarity.manifest.summary
print(summary["embedder"])
series = summary["series"][0]  # one per compared collection of problems
for level in series["levels"]:
    median = level.get("median", "no pair found")
    print(f"personas at {level['level']}: {level['pairs']} pairs, median similarity of their problems {median}")

# %%
pairs = [pair for pair in similarity.rows() if pair["series"] == series["name"]]
levels = [level["level"] for level in series["levels"] if level["pairs"]]
figure, axes = plt.subplots(figsize=(5, 3))
axes.boxplot(
    [[pair["problem_similarity"] for pair in pairs if pair["level"] == level] for level in levels],
    tick_labels=[str(level) for level in levels],
)
axes.set(xlabel="similarity of the personas", ylabel="similarity of the problems")
plt.show()

# %% [markdown]
# ## Two pairs to read
#
# Among the most similar personas: the pair with the most similar problems, and the pair with the least similar ones.

# %%
nearest = sorted((pair for pair in pairs if pair["level"] == levels[-1]), key=lambda pair: pair["problem_similarity"])
for pair in (nearest[-1], nearest[0]):
    print(f"personas {pair['persona_similarity']:.2f}, problems {pair['problem_similarity']:.2f}")
    for side in "ab":
        print("   persona", pair[f"persona_{side}"])
        print("   problem", pair[f"problem_{side}"])
