"""The examples of docs/extending.md form an installed package that passes the conformance suite."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
KINDS = ("attack", "corpus", "corruption", "encoder", "explainer", "head")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.S)


def _install(site: Path) -> None:
    """Write the modules and entry points of the page, as an installer leaves them."""
    described = site / "my_package-0.1.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 0.1\n")
    (toml,) = _blocks("toml")
    points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", toml).replace('"', "")
    (described / "entry_points.txt").write_text(points)
    (site / "my_package").mkdir()
    (site / "my_package" / "__init__.py").touch()
    for block in _blocks("python"):
        if name := re.match(r"# (my_package/\w+\.py)\n", block):
            (site / name[1]).write_text(block)


def _save_model(folder: Path) -> None:
    from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel
    from transformers import Wav2Vec2FeatureExtractor as Extractor

    torch.manual_seed(0)
    config = Wav2Vec2ConformerConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        conv_dim=[16] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the initialisation in transformers
        Wav2Vec2ConformerModel(config).save_pretrained(folder)
    Extractor().save_pretrained(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the checkout with the package, recordings and a model."""
    folder = tmp_path_factory.mktemp("extending")
    _install(folder / "site")
    _save_model(folder / "models" / "conformer")
    rng = np.random.default_rng(0)
    (folder / "clips").mkdir()
    for speaker in ("ann", "bob"):
        for emotion in ("happy", "sad"):
            path = folder / "clips" / f"{speaker}_{emotion}_01.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(4000), 16_000)
    return folder


def _run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Only the package's folder is added to the path, as an installer would.
    start = f"import sys; sys.path.insert(0, {str(place / 'site')!r})\n"
    command = [sys.executable, "-c", start + arguments[0], *arguments[1:]]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_examples_pass_the_checks_of_the_page(place: Path) -> None:
    scripts = [block for block in _blocks("python") if not block.startswith("# my_package/")]
    scripts = [block for block in scripts if "reachable" not in block]  # part of an attack
    assert len(scripts) == 2
    ran = _run(place, "import torch; torch.set_num_threads(1)\n" + "\n".join(scripts))
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_the_command_line_finds_them(place: Path) -> None:
    ran = _run(place, "from sigma_ser.cli import main; main()", "list", "--json")
    assert ran.returncode == 0, ran.stderr
    listed = json.loads(ran.stdout)
    for kind in KINDS:
        wanted = "wav2vec2-conformer" if kind == "encoder" else f"my-{kind}".replace(
            "explainer", "map"
        )  # fmt: skip
        assert wanted in listed[kind]


def test_there_is_one_example_of_each_kind() -> None:
    registered = re.findall(r'^@register\("(\w+)"', "\n".join(_blocks("python")), re.M)
    assert sorted(registered) == sorted(KINDS)
