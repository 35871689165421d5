"""Packaging of Clickmill: the rooms are top-level packages, `clickmill` is the command."""

from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ("clickmill", "features", "models", "evaluation", "serving", "pipeline")

# TFX 1.16 with TensorFlow 2.16 is the newest pair whose wheels install on glibc older than 2.39.
REQUIRES = [
    "tfx==1.16.0",
    "tensorflow-recommenders==0.7.7",
    "dill",  # TFX 1.16 imports it, newer Beam no longer brings it
    "fsspec",
    "google-crc32c",
    "jinja2",
    "lmdb",
    "numpy",
    "pandas",
    "plotly",
    "psutil",
    "pyarrow",
    "pydantic>=2",
    "pyyaml",
    "rich",
    "setuptools",  # builds the editable install from the lock alone
    "tensorboard",
    "threadpoolctl",
    "typer",
]

setup(
    name="clickmill",
    version="0.1.0",
    description="Click logs to a ranking service: a TFX pipeline that trains, proves and publishes rankers.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.11",
    packages=[*find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")]), "tfx_config"],
    package_data={
        "clickmill": ["py.typed"],
        "evaluation.report": ["templates/*"],
        "tfx_config": ["*.yaml"],
    },
    install_requires=REQUIRES,
    extras_require={"dev": ["hypothesis", "mypy", "pre-commit", "pytest", "ruff", "types-PyYAML"]},
    entry_points={"console_scripts": ["clickmill = pipeline.cli.app:main"]},
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
    ],
)
