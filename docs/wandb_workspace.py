"""Save a Weights & Biases workspace for an experiment: `python docs/wandb_workspace.py TEAM ablation_persona`.

It becomes a view of the project, and its address is printed. Needs an account (`wandb login`) and
`pip install wandb-workspaces`. docs/experiments.md lists its charts, so that you can also build it by hand.
"""

from __future__ import annotations

import argparse

import wandb_workspaces.reports.v2 as panels
import wandb_workspaces.workspaces as workspaces

ARM = panels.Config("matrix.arm")
ACCURACY = "benchmarks.synthetic_test.accuracy"
# Title of each section, and its charts as (title, keys, kind).
SECTIONS: tuple[tuple[str, tuple[tuple[str, tuple[str, ...], str], ...]], ...] = (
    (
        "Accuracy",
        (
            ("Accuracy by arm, mean over seeds", (ACCURACY,), "bar"),
            ("No answer found", ("benchmarks.synthetic_test.no_answer_rate",), "bar"),
            ("Cut off", ("benchmarks.synthetic_test.truncation_rate",), "bar"),
        ),
    ),
    (
        "Training",
        (
            ("Loss", ("train/loss",), "line"),
            ("Gradient norm", ("train/grad_norm",), "line"),
            ("Learning rate", ("train/learning_rate",), "line"),
            ("Tokens per second", ("train/tokens_per_second",), "line"),
        ),
    ),
    (
        "Data",
        (
            ("Records", ("rows_in", "rows_out"), "bar"),
            ("Rejected: solutions disagree", ("rejected/no_agreement",), "bar"),
        ),
    ),
)


def workspace(entity: str, project: str, experiment: str) -> workspaces.Workspace:
    """Return the unsaved view: only runs of the experiment, charts grouped by arm."""
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=experiment,
        sections=[
            workspaces.Section(name=title, panels=[_panel(*chart) for chart in charts], is_open=True)
            for title, charts in SECTIONS
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=workspaces.And(workspaces.Metric("Group") == experiment),
            groupby=[workspaces.Config("matrix.arm")],
        ),
    )


def _panel(title: str, keys: tuple[str, ...], how: str) -> panels.BarPlot | panels.LinePlot:
    if how == "bar":
        return panels.BarPlot(title=title, metrics=list(keys), groupby=ARM, groupby_aggfunc="mean")
    return panels.LinePlot(title=title, x="Step", y=list(keys), groupby=ARM, groupby_aggfunc="mean")


def main() -> None:
    """Save the view."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("entity", help="user or team")
    parser.add_argument("experiment")
    parser.add_argument("--project", default="persona-hub")
    words = parser.parse_args()
    print(workspace(words.entity, words.project, words.experiment).save().url)


if __name__ == "__main__":
    main()
