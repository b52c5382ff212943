# %% [markdown]
# # Did it help, or was it chance?
#
# `eval.compare` compares two runs on the same problems, and `eval.ablation` compares several arms over several seeds.
# This notebook reads their results from all experiments in the same folder as the run that `PERSONAHUB_RUN` names.
# After `make quickstart` it compares the student before and after training; after `make ablation` it compares arms with
# and without personas. docs/experiments.md has the formulas.

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
artifacts = [open_artifact(path.parent) for path in sorted(run.parent.glob("*/*/manifest.json"))]

# %% [markdown]
# ## Two runs, problem by problem
#
# Only problems that one run solves and the other does not matter. McNemar's exact test gives the probability of such an
# uneven split if both runs were equally good.

# %%
for artifact in artifacts:
    if artifact.manifest.module != "eval.compare":
        continue
    print(artifact.path)
    for benchmark, comparisons in artifact.manifest.summary["comparisons"].items():
        for found in comparisons:
            points = [100 * found[key] for key in ("difference", "low", "high")]
            print(f"  {benchmark}, {found['n']} problems: {found['a']} -> {found['b']}")
            print("    {:+.1f} points, 95% interval {:+.1f} to {:+.1f}".format(*points))
            several = "McNemar's test does not apply to several samples per problem"
            p = several if found["p"] is None else f"p = {found['p']:.2g}"
            print(f"    solved by one alone: {found['only_a']} and {found['only_b']}, {p}")

# %% [markdown]
# ## Arms over seeds
#
# Seeds are a sample too: a difference must stand out against the effect of another seed on the same arm.

# %%
for artifact in artifacts:
    if artifact.manifest.module != "eval.ablation":
        continue
    summary = artifact.manifest.summary
    for benchmark, result in summary["benchmarks"].items():
        arms = result["accuracy"]
        figure, axes = plt.subplots(figsize=(5, 0.5 * len(arms) + 1))
        for row, found in enumerate(arms.values()):
            axes.plot([100 * found["low"], 100 * found["high"]], [row, row], color="tab:blue", alpha=0.4, linewidth=6)
            axes.plot(100 * found["mean"], row, "o", color="tab:blue")
        axes.set(yticks=range(len(arms)), yticklabels=list(arms), xlabel=f"accuracy on {benchmark}, percent")
        plt.show()
    for kind in ("shown", "not_shown", "limits"):
        for sentence in summary["conclusions"][kind]:
            print(f"{kind.replace('_', ' ')}: {sentence}")
