"""Metadata of the distribution; pyproject.toml holds only the build system and the settings of the tools."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
TOP_LEVEL = ("mdgan_edge", "broker", "nodes", "sim")


def version() -> str:
    """The version in mdgan_edge/__init__.py, read as text: importing the package would want its dependencies."""
    text = (ROOT / "mdgan_edge" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("mdgan_edge/__init__.py does not state __version__")
    return found[1]


def long_description() -> str:
    """README.md, or nothing in a checkout that has none."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="mdgan-edge",
    version=version(),
    description=(
        "Train one GAN on data that stays on many devices, asynchronously over ZeroMQ. Install it into an environment "
        "of its own: its top-level packages have the generic names broker, nodes and sim."
    ),
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="the mdgan-edge authors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=[f"{top}{tail}" for top in TOP_LEVEL for tail in ("", ".*")]),
    package_data={
        "mdgan_edge": ["py.typed"],
        "mdgan_edge.data": ["digits.npz", "DIGITS.md"],
        "sim.experiments": ["shipped/*.toml"],
        "sim.report": ["*.j2"],
        "sim.scenario": ["shipped/*.toml"],
    },
    install_requires=[
        "click>=8.1.7",
        "msgpack>=1.0.8",
        "msgspec>=0.19",
        "numpy>=1.26",
        "pillow>=10.3",
        "pyzmq>=26",
        "rich>=13.7",
        "safetensors>=0.4.5",
        "tomli-w>=1.0",
        "torch>=2.6",
    ],
    extras_require={
        "dask": [
            "distributed>=2024.8",
        ],
        "dev": [
            "hypothesis>=6.100",
            "import-linter>=2.1",
            "mypy==2.4.1",
            "prdc>=0.2",
            "pytest>=8.2",
            "pytest-xdist>=3.6",
            "ruff==0.17.6",
            "scipy>=1.13",
            "setuptools>=70.1",
            "torchmetrics>=1.4",
        ],
        "report": [
            "jinja2>=3.1",
            "matplotlib>=3.9",
        ],
    },
    entry_points={
        "console_scripts": [
            "mdgan-hub = broker.cli:main",
            "mdgan-node = nodes.cli:main",
            "mdgan-sim = sim.cli:main",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
