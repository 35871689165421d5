"""The rivals' own virtual environments, made once under data/benchmark_envs/.

On a machine whose default index serves PyTorch with CUDA, point pip at the CPU wheels first, for example
`PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu` with `--torch torch==2.13.0+cpu`.
"""

from __future__ import annotations

import hashlib
import subprocess
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1] / "data" / "benchmark_envs"

# DeepCTR imports parts of TensorFlow that 2.16 no longer has. Without its dependencies: it pins an h5py without wheels.
DEEPCTR = (["tensorflow-cpu==2.12.1", "numpy==1.23.5", "pandas==2.0.3", "requests"], ["deepctr==0.9.3"])
FUXICTR = ["fuxictr==2.3.10"]
# The wheel leaves the model zoo's AutoInt out: it is fetched from the same release's repository, held by its digest.
FUXICTR_COMMIT = "0245987fdc1d43c36164ea496a02324885a8557a"
FUXICTR_AUTOINT = f"https://raw.githubusercontent.com/reczoo/FuxiCTR/{FUXICTR_COMMIT}/model_zoo/AutoInt/src/AutoInt.py"
FUXICTR_AUTOINT_SHA256 = "fdde3cc7f0d0b482bdc5d17967cf48f28f5d8b85babe9d71e6d45960c998cd9e"


def deepctr(interpreter: str) -> Path:
    """Returns the Python of DeepCTR's environment, made with `interpreter` (Python 3.9 to 3.11) where it is missing."""
    python, made = _venv("deepctr", interpreter)
    if not made.exists():
        _pip(python, *DEEPCTR[0])
        _pip(python, "--no-deps", *DEEPCTR[1])
        made.touch()
    return python


def fuxictr(interpreter: str, torch: str) -> tuple[Path, Path]:
    """Returns the Python of FuxiCTR's environment and its AutoInt's source; `torch` is the requirement to install."""
    python, made = _venv("fuxictr", interpreter)
    if not made.exists():
        _pip(python, torch)
        _pip(python, *FUXICTR)
        made.touch()
    source = ROOT / "fuxictr" / "AutoInt.py"
    if not source.exists():
        try:
            urllib.request.urlretrieve(FUXICTR_AUTOINT, source)
        except OSError as error:
            raise SystemExit(f"{FUXICTR_AUTOINT} could not be fetched ({error}). Put the file at {source}.") from error
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != FUXICTR_AUTOINT_SHA256:
        raise SystemExit(f"{source} is not FuxiCTR's AutoInt at {FUXICTR_COMMIT}: its SHA-256 is {found}. Delete it.")
    return python, source


def _venv(name: str, interpreter: str) -> tuple[Path, Path]:
    folder = ROOT / name
    if not (folder / "bin" / "python").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    return folder / "bin" / "python", folder / "installed"


def _pip(python: Path, *requirements: str) -> None:
    print("installing", *requirements, flush=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
