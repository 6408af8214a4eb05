"""Install msvl: `make setup`, or `pip install -c constraints.txt -e .` with a torch that fits the machine."""

from pathlib import Path

from setuptools import find_packages, setup

REQUIRED = [
    "torch>=2.10,<3",
    "deepspeed>=0.19,<0.20",
    "accelerate>=1.15,<2",
    "transformers>=5.20,<6",
    "webdataset>=1.0,<2",
    "wandb>=0.31,<1",
    "wandb-workspaces>=0.4.13,<1",
    "submitit>=1.5.4,<2",
    "einops>=0.8,<1",
    "fsspec>=2026.9,<2027",
    "imagecodecs>=2026.1,<2027",
    "jinja2>=3.1,<4",
    "matplotlib>=3.10,<4",
    "ninja>=1.11",
    "numpy>=2.2,<3",
    "opencv-python-headless>=5,<6",
    "pydantic>=2.12,<3",
    "pydicom>=3.0,<4",
    "pyyaml>=6,<7",
    "rich>=14",
    "requests>=2.32,<3",
    "safetensors>=0.6,<1",
    "scikit-learn>=1.7,<2",
    "scipy>=1.15,<2",
    "simplejpeg>=1.8,<2",
    "tokenizers>=0.22,<1",
    "tqdm>=4.67,<5",
    "xxhash>=3.5,<5",
]
REMOTE = ["gcsfs>=2026.8", "s3fs>=2026.9,<2027"]
DEVELOPMENT = [
    "flask>=3.1",
    "flask-cors>=6",
    "import-linter>=2.5",
    "moto[s3]>=5.2,<6",
    "mypy>=1.18",
    "pytest>=8.4",
    "ruff>=0.14",
    "s3fs>=2026.9,<2027",
    "types-PyYAML>=6",
    "types-tqdm>=4.67",
]
# Loaders that benchmarks/data/stream_speed.py compares with. pip would bring another torch with them: see stream_peers.py.
PEERS = ["megatron-energon>=7.4,<8", "mosaicml-streaming>=0.13,<1", "torchvision>=0.25,<1"]

setup(
    name="msvl",
    version="0.1.0",
    description="Pretrain and judge radiology vision-language foundation models on GPU clusters (arXiv 2401.01583)",
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The launchers run from the checkout: an installed top-level `launch` collides with other packages.
    packages=find_packages(include=["msvl", "msvl.*"]),
    package_data={"msvl": ["**/*.html", "**/*.yaml", "**/*.css"]},
    install_requires=REQUIRED,
    extras_require={"dev": DEVELOPMENT, "peers": PEERS, "remote": REMOTE},
    entry_points={"console_scripts": ["msvl=msvl.cli:main"]},
)
