from __future__ import annotations
import pytest


def test_it(experiment, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("r") / "report"
    run(folder, "eval.report", experiment)
    import shutil

    shutil.rmtree("/tmp/report_try", ignore_errors=True)
    shutil.copytree(folder, "/tmp/report_try")
