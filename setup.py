"""Packaging of Clickmill: the rooms are top-level packages, `clickmill` is the command."""

from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ("clickmill", "features", "models", "evaluation", "serving", "pipeline")

# Two stacks, each with a lock in requirements/; the older is the newest whose wheels install on glibc before 2.39.
STACKS = ("python_version < '3.11'", "python_version >= '3.13'")
PER_STACK = {
    "apache-beam": ("==2.74.*", "==2.77.*"),
    "ml-metadata": ("==1.16.*", "==1.21.*"),
    "numpy": ("<2", ">=2"),
    "pyarrow": ("==10.*", "==18.*"),
    "tensorflow": ("==2.16.*", "==2.21.*"),
    "tensorflow-data-validation": ("==1.16.*", "==1.21.*"),
    "tensorflow-metadata": ("==1.16.*", "==1.21.*"),
    "tensorflow-serving-api": ("==2.16.*", ">=2.19"),
    "tf-keras": ("==2.16.*", "==2.21.*"),
    "tfx": ("==1.16.*", "==1.21.*"),
}
REQUIRES = [
    "absl-py",
    "dill",  # TFX 1.16 imports it, newer Beam no longer brings it
    "fastapi",
    "fastapi-offline",  # the page of the interface, without a script from elsewhere
    "fsspec",
    "google-crc32c",
    "grpcio",
    "grpcio-health-checking",
    "h11",
    "jinja2",
    "lmdb",
    "orjson",
    "prometheus-client",
    "protobuf",
    "psutil",
    "pydantic>=2",
    "pydantic-core",
    "pyyaml",
    "rich",
    "scikit-learn",
    "scipy",
    "setuptools",  # builds the editable install from the lock alone
    "starlette",
    "tensorboard",
    "tensorflow-recommenders==0.7.7",
    "threadpoolctl",
    "typer",
    "typing-extensions",
    "uvicorn",
    "zstandard",
]
# Imported by tests and benchmarks alone, or run by hand.
DEV = [
    "cryptography",  # makes the certificates of tests
    "httpx",
    "hypothesis",
    "mypy",
    "packaging",
    "pre-commit",
    "pytest",
    "ruff",
    "tensorflow-transform",
    "types-PyYAML",
]

setup(
    name="clickmill",
    version="0.1.0",
    description="Click logs to a ranking service: a TFX pipeline that trains, proves and publishes rankers.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,!=3.11.*,!=3.12.*,<3.14",
    packages=[*find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")]), "tfx_config"],
    package_data={
        "clickmill": ["py.typed"],
        "evaluation.report": ["templates/*", "templates/replay/*"],
        "pipeline.schedule": ["templates/*"],
        "serving.deploy": ["templates/*"],
        "serving.gateway.page": ["templates/*"],
        "tfx_config": ["*.yaml"],
    },
    install_requires=[
        *REQUIRES,
        *(f"{name}{pin}; {stack}" for name, pins in PER_STACK.items() for pin, stack in zip(pins, STACKS, strict=True)),
    ],
    extras_require={"dev": DEV},
    entry_points={"console_scripts": ["clickmill = pipeline.cli.app:main"]},
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.13",
    ],
)
