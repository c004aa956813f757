"""`python -m tagpr.training.verl FOLDER [verl's KEY=VALUE]...`: train an exported stage, in verl's environment."""

import os
import sys
from pathlib import Path

from tagpr.training.verl.launch import verl_command
from tagpr.training.verl.layout import VerlFolder

if __name__ == "__main__":
    if len(sys.argv) < 2 or not VerlFolder(Path(sys.argv[1])).config.is_file():
        sys.exit("usage: python -m tagpr.training.verl FOLDER [KEY=VALUE]...; FOLDER: what `tagpr export verl` wrote")
    words = verl_command(VerlFolder(Path(sys.argv[1])), sys.argv[2:])
    os.execv(words[0], words)
