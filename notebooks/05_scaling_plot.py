# %% [markdown]
# # Accuracy against the number of problems
#
# Figure 9 of the paper: a student trained on growing subsets of the same data. Each point is an evaluated model from an
# experiment in the same folder as the run that `PERSONAHUB_RUN` names. `configs/scaling_small.yaml` makes a series of
# nested subsets on a CPU; `configs/scaling.yaml` makes the paper's.

# %%
import os
from collections import defaultdict
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
trained = {a.fingerprint: a.manifest.summary for a in artifacts if a.manifest.module == "train.sft"}

points = defaultdict(list)
for artifact in artifacts:
    model = artifact.manifest.inputs.get("model")
    if artifact.manifest.module != "eval.benchmark" or model is None or model.fingerprint not in trained:
        continue
    for benchmark, result in artifact.manifest.summary["benchmarks"].items():
        examples = trained[model.fingerprint]["examples"]
        points[benchmark].append((examples, result["accuracy"], result["low"], result["high"]))
        print(f"{artifact.path}: {examples:,} problems, {benchmark} {100 * result['accuracy']:.1f}%")

# %%
for benchmark, found in points.items():
    examples, accuracy, low, high = (list(column) for column in zip(*sorted(found), strict=True))
    figure, axes = plt.subplots(figsize=(5, 3))
    axes.fill_between(examples, low, high, alpha=0.2)
    axes.plot(examples, accuracy, "o-")
    axes.set(xscale="log", xlabel="training problems", ylabel=f"accuracy on {benchmark.replace('_', ' ')}", ylim=(0, 1))
    plt.show()
