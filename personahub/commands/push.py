"""An artifact on the Hugging Face hub: its records as Parquet, a dataset card, and where they came from.

    personahub push runs/quickstart/problems --dry-run upload/                # writes the folder, uploads nothing
    HF_TOKEN=... personahub push runs/quickstart/problems --repo me/problems

What is uploaded is exactly the folder that a dry run writes:

    README.md          the card (`personahub.commands.card`)
    data/*.parquet     the records; nothing that was rejected, and nothing that a simulated teacher knew
    provenance.json    manifests of this artifact and of those it was made from, without paths of this machine

The token comes from the environment variable HF_TOKEN and from nowhere else.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from personahub.commands.card import card, upstream
from personahub.core.artifact import Artifact
from personahub.core.errors import UserError
from personahub.core.files import write_json

TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105  (the name of a variable)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def write_upload(artifact: Artifact, folder: Path, repository: str | None = None) -> list[Path]:
    """Write what would be uploaded into `folder`; returns the files.

    Raises:
        UserError: the folder holds something already, or the artifact has no records.
    """
    if not artifact.shard_names or not artifact.num_rows:
        raise UserError(f"{artifact.path}: there are no records to publish in it ({artifact.manifest.module})")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: there is something in it already; name a new or empty folder")
    (folder / "data").mkdir(parents=True)
    total = len(artifact.shard_names)
    for number, name in enumerate(artifact.shard_names):
        shutil.copyfile(
            artifact.path / f"{name}.parquet", folder / "data" / f"train-{number:05d}-of-{total:05d}.parquet"
        )
    (folder / "README.md").write_text(card(artifact, repository), encoding="utf-8")
    write_json(folder / "provenance.json", _provenance(artifact))
    return sorted(path for path in folder.rglob("*") if path.is_file())


def push(artifact: Artifact, repository: str, *, private: bool = False) -> str:
    """Upload to a data set repository, which is made if it is not there; returns its address.

    Raises:
        UserError: no token in the environment, no such name, or the hub refuses.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise UserError(f"{TOKEN_VARIABLE} is not set: it holds the token that may write to {repository}")
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"--repo {repository}: a repository is named OWNER/NAME")
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        write_upload(artifact, Path(folder), repository)
        try:
            api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            message = f"{artifact.manifest.experiment}/{artifact.manifest.stage} {artifact.fingerprint}"
            api.upload_folder(repo_id=repository, repo_type="dataset", folder_path=folder, commit_message=message)
        except Exception as error:  # noqa: BLE001  (the hub's client passes on what its HTTP library raises)
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"the hub did not take {repository}: {reason}") from None
    return f"{api.endpoint}/datasets/{repository}"


def _provenance(artifact: Artifact) -> list[dict[str, Any]]:
    """Manifests from the root to `artifact`."""
    stages = [stage.artifact for stage in upstream(artifact) if stage.artifact is not None]
    return [_without_paths(one.manifest.model_dump(mode="json", exclude={"command"})) for one in [*stages, artifact]]


def _without_paths(value: Any) -> Any:
    """The same with absolute paths cut down to the name of their file: they say who made it, not what."""
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    if isinstance(value, str) and value.startswith(("/", "~")) and "\n" not in value:
        return Path(value).name
    return value
