"""Publish an artifact on the Hugging Face Hub with dataset card and provenance.

    personahub push runs/quickstart/problems --dry-run upload/                # writes the folder, uploads nothing
    HF_TOKEN=... personahub push runs/quickstart/problems --repo me/problems

The upload is exactly the folder that a dry run writes:

    README.md          the dataset card
    data/*.parquet     the records, without rejected ones and without the simulated teacher's true answers
    provenance.json    manifests of this artifact and of the artifacts it was made from, without local paths

The token is only read from the environment variable HF_TOKEN.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from personahub.commands.dataset_card import dataset_card, upstream
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.errors import UserError
from personahub.core.files import write_json

TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105  (the name of a variable)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub push`."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="Folder of a stage, such as runs/quickstart/problems")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--repo", metavar="OWNER/NAME", help="The dataset repository; needs a token in HF_TOKEN")
    where.add_argument(
        "--dry-run", type=Path, metavar="FOLDER", help="Write the upload to a new folder instead of uploading it"
    )
    parser.add_argument("--private", action="store_true", help="Make the repository private if it does not exist yet")


def run(options: argparse.Namespace) -> int:
    """Upload the artifact, or write what would be uploaded."""
    artifact = open_artifact(options.artifact)
    if options.dry_run is None:
        print(push(artifact, options.repo, private=options.private))
        return 0
    for file in write_upload(artifact, options.dry_run):
        print(f"{file} ({file.stat().st_size:,} bytes)")
    print("Nothing was uploaded. To upload, replace --dry-run with --repo OWNER/NAME.")
    return 0


def write_upload(artifact: Artifact, folder: Path, repository: str | None = None) -> list[Path]:
    """Write the files of an upload to `folder`. Returns their paths.

    Raises:
        UserError: the folder is not empty, or the artifact has no records.
    """
    if not artifact.shard_names or not artifact.num_rows:
        raise UserError(f"{artifact.path}: has no records to publish ({artifact.manifest.module})")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty; choose a new or empty folder")
    (folder / "data").mkdir(parents=True)
    total = len(artifact.shard_names)
    for number, name in enumerate(artifact.shard_names):
        shutil.copyfile(
            artifact.path / f"{name}.parquet", folder / "data" / f"train-{number:05d}-of-{total:05d}.parquet"
        )
    (folder / "README.md").write_text(dataset_card(artifact, repository), encoding="utf-8")
    write_json(folder / "provenance.json", _provenance(artifact))
    return sorted(path for path in folder.rglob("*") if path.is_file())


def push(artifact: Artifact, repository: str, *, private: bool = False) -> str:
    """Upload to a dataset repository, which is created if necessary. Returns its URL.

    Raises:
        UserError: the environment has no token, the repository's name is invalid, or the Hub refuses the upload.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise UserError(f"{TOKEN_VARIABLE} is not set: set it to a token with write access to {repository}")
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"--repo {repository}: not a repository name; use OWNER/NAME")
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        write_upload(artifact, Path(folder), repository)
        try:
            api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            message = f"{artifact.manifest.experiment}/{artifact.manifest.stage} {artifact.fingerprint}"
            api.upload_folder(repo_id=repository, repo_type="dataset", folder_path=folder, commit_message=message)
        except Exception as error:  # noqa: BLE001  (the Hub's client passes on exceptions of its HTTP library)
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"the Hub refused the upload to {repository}: {reason}") from None
    return f"{api.endpoint}/datasets/{repository}"


def _provenance(artifact: Artifact) -> list[dict[str, Any]]:
    """Return the manifests of all stages from the first one to `artifact`."""
    stages = [stage.artifact for stage in upstream(artifact) if stage.artifact is not None]
    return [_without_paths(each.manifest.model_dump(mode="json", exclude={"command"})) for each in [*stages, artifact]]


def _without_paths(value: Any) -> Any:
    """Replace absolute paths by their last part. Folders can identify a user or a machine."""
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    if isinstance(value, str) and value.startswith(("/", "~")) and "\n" not in value:
        return Path(value).name
    return value
