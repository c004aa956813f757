"""Which files a recipe's data block reads, so that a run can tell whether any of them changed."""

from pathlib import Path

from tagpr.data.formats.hub import on_hub
from tagpr.data.formats.lamp import find_questions, outputs_beside
from tagpr.data.load import card_of, placed
from tagpr.data.settings import DataSettings
from tagpr.errors import DataError
from tagpr.files import fingerprint


def data_files(settings: DataSettings, folder: Path) -> list[Path]:
    """Every file the data stage reads, in the recipe's order: data, the outputs beside LaMP's questions, cards, and the
    user's own readers. Hub datasets and what comes with the package are not files of the user's."""
    found: list[Path] = []
    for source in placed(settings):
        card = card_of(source, folder)
        if isinstance(card, Path):
            found.append(card)
        for text, split in ((source.path, "train"), (source.heldout_path, "dev")):
            if not text or on_hub(text):
                continue
            try:
                path = find_questions(folder / text, split)
            except DataError:  # which the stage says when it reads
                path = folder / text
            found += [path, *([outputs] if (outputs := outputs_beside(path)) else [])]
        place, _, _ = source.format.rpartition(":")
        if place.endswith(".py"):
            found.append(folder / place)
    return list(dict.fromkeys(found))


def data_fingerprints(settings: DataSettings, folder: Path) -> dict[str, str]:
    """Digest by file of everything the data stage reads; equal exactly if all contents are equal."""
    return {str(path): fingerprint(path) for path in data_files(settings, folder)}
