"""What the files of a checkpoint say before it is loaded: whether its weights are whole, its embedding's rows."""

import json
from pathlib import Path

from tagpr.errors import ModelError
from tagpr.stages import made_again


def check_weights(folder: Path) -> None:
    """Raises ModelError for weights that were cut off or have no readable header; nothing but headers is read."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            fix = made_again(folder, "save or download it again")
            raise ModelError(f"model {str(folder)!r}: its weights are damaged ({path.name}: {reason}); {fix}") from None


def embedding_rows(folder: Path) -> int | None:
    """Rows of the checkpoint's embedding by its config; None if that does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    rows = config.get("text_config", config).get("vocab_size")
    return rows if isinstance(rows, int) else None
