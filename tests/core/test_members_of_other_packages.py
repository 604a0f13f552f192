"""What other packages add is found by name, as the front page of the documentation says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.victims.victim import wrap

PAGE = Path(__file__).parents[2] / "docs" / "index.md"


class MeanPool(torch.nn.Linear):
    """A victim with one frame count for all."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return super().forward(x.sum(1) / lengths[:, None])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package that offers what it says in `entry_points.txt`."""
    described = tmp_path / "my_package-0.1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for kind in ("attack", "explainer"):
        registry.names(kind)  # what is there already is loaded before, and stays
        monkeypatch.setitem(registry._members, kind, dict(registry._members[kind]))
    monkeypatch.setattr(registry, "_loaded", registry._loaded - {"attack", "explainer"})
    return described


def test_the_example_of_the_front_page_is_found_and_runs(package: Path) -> None:
    text = PAGE.read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (offered,) = re.findall(r"```toml\n(\[project.*?)```", text, re.S)
    (package.parent / "my_package").mkdir()
    (package.parent / "my_package" / "__init__.py").touch()
    (package.parent / "my_package" / "my_attack.py").write_text(example)
    points = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", offered).replace('"', "")
    (package / "entry_points.txt").write_text(points)
    torch.manual_seed(0)
    victim, batch = (
        wrap(MeanPool(8, 3).eval()),
        ss.FeatureBatch(torch.randn(4, 6, 8), torch.full((4,), 6)),
    )
    labels = victim(batch.x, batch.lengths).argmax(1)
    try:
        sigma = ss.Sigma("my-map", ss.make_attack("my-attack", steps=2), scope=4)
        result = sigma(victim, batch, labels, ss.Budget(sparsity=0.2, epsilon=50.0))
    finally:
        for name in ("my_package", "my_package.my_attack"):
            sys.modules.pop(name, None)
    assert bool(result.success.all())


def test_a_member_that_cannot_be_imported_is_named(package: Path) -> None:
    # One broken package ended every command with a traceback of importlib.
    (package / "entry_points.txt").write_text("[sigma_ser.attack]\ntheirs = no_such_file:Theirs\n")
    with pytest.raises(ss.SigmaError, match=r"attack 'theirs' as no_such_file:Theirs.*uninstall"):
        ss.make_attack("pgd")
