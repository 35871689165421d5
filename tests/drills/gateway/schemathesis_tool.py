"""Schemathesis, in an environment of its own below data/tools/: Clickmill does not need it, nor its versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.serving.deploy.tools import TOOLS, installed_environment

# Of versions that bound their own requirements; not the newest, which a lagging index may lack.
_REQUIREMENT = "schemathesis==4.26.1"
#: Not `positive_data_acceptance`: whether a feature fits is the release's matter, which the page cannot say.
_LEFT_OUT = "positive_data_acceptance,unsupported_method"
_PATIENCE_S = 3600


def run_schemathesis(url: str, cases: int, seed: int = 1, phases: str = "coverage,fuzzing") -> tuple[str, bool]:
    """Fuzzes a gateway by its OpenAPI page; returns the report's end, and whether something was found.

    Args:
      url: of the gateway.
      cases: at most, of each operation.
      seed: of the cases.
      phases: of Schemathesis.
    """
    tool = installed_environment(f"schemathesis-{sys.version_info.major}.{sys.version_info.minor}", _REQUIREMENT)
    command = [str(tool.with_name("st")), "run", f"{url}/openapi.json", "--phases", phases]
    command += ["--checks", "all", "--exclude-checks", _LEFT_OUT, "--max-examples", str(cases), "--seed", str(seed)]
    command += ["--include-path-regex", "^/v1/", "--request-timeout", "30", "--suppress-health-check", "all"]
    command += ["--continue-on-failure", "--no-color", "--generation-database", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, cwd=_folder())
    return (done.stdout + done.stderr)[-12_000:], done.returncode != 0


def _folder() -> Path:
    """Where it leaves what it keeps of itself."""
    folder = TOOLS / "schemathesis-work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
