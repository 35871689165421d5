"""The rivals' own virtual environments, made once under data/benchmark_envs/.

Where pip's own index serves PyTorch with CUDA, give it one of CPU wheels first (`PIP_EXTRA_INDEX_URL`).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2] / "data" / "benchmark_envs"

# DeepCTR imports parts of TensorFlow that 2.16 no longer has. Without its dependencies: it pins an h5py without wheels.
DEEPCTR = (["tensorflow-cpu==2.12.1", "numpy==1.23.5", "pandas==2.0.3", "requests"], ["deepctr==0.9.3"])
FUXICTR = ["fuxictr==2.3.10"]
# Open Bandit Pipeline reads with scikit-learn and draws with matplotlib as they were.
OPEN_BANDIT = ["obp==0.5.7", "scikit-learn==1.1.3", "matplotlib<3.9", "numpy<2", "vw-estimators==0.2.2"]

# Its intervals are functions of arrays; the rest of it would bring PyTorch and d3rlpy.
SCOPE_RL = (["gym==0.26.2", "scikit-learn==1.1.3", "scipy", "numpy<2"], ["scope-rl==0.2.1"])


def deepctr(interpreter: str) -> Path:
    """Returns the Python of DeepCTR's environment, made with `interpreter` (Python 3.9 to 3.11) where it is missing."""
    return _made("deepctr", interpreter, DEEPCTR[0], ["--no-deps", *DEEPCTR[1]])


def fuxictr(interpreter: str, torch: str) -> Path:
    """Returns the Python of FuxiCTR's environment; `torch` is the requirement to install."""
    return _made("fuxictr", interpreter, [torch], FUXICTR)


def open_bandit(interpreter: str) -> Path:
    """Returns the Python of Open Bandit Pipeline's and vw-estimators' environment (Python 3.10)."""
    return _made("open_bandit", interpreter, OPEN_BANDIT)


def scope_rl(interpreter: str) -> Path:
    """Returns the Python of SCOPE-RL's environment (Python 3.10)."""
    return _made("scope_rl", interpreter, SCOPE_RL[0], ["--no-deps", *SCOPE_RL[1]])


def _made(name: str, interpreter: str, *installed: list[str]) -> Path:
    """The Python of an environment, in which pip has installed one list after the other."""
    folder = ROOT / name
    python, done = folder / "bin" / "python", folder / "installed"
    if not python.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    if not done.exists():
        for words in installed:
            _pip(python, *words)
        done.touch()
    return python


def _pip(python: Path, *requirements: str) -> None:
    print("installing", *requirements, flush=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
