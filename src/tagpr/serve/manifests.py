"""Stages' lists of files after something was changed in place, so that the stages still count as complete."""

import hashlib

from tagpr.runs.layout import RunFolder
from tagpr.runs.manifest import read_manifest
from tagpr.stages import SUMMARIES


def renew_manifests(folder: RunFolder) -> None:
    """Write the digests of every complete stage's files again; files that are gone leave the list."""
    for stage in SUMMARIES:
        manifest = read_manifest(folder.stage(stage))
        if manifest is not None:
            places = {name: folder.stage(stage) / name for name in manifest.files}
            files = {
                name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in places.items() if path.is_file()
            }
            manifest.model_copy(update={"files": files}).write(folder.stage(stage))
