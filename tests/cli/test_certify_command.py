"""`sigma-ser certify`: table and JSON on a small store and a small victim."""

from __future__ import annotations

import dataclasses
import json
from itertools import chain, groupby
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

import sigma_ser as ss
from sigma_ser.cli.certify import certify
from sigma_ser.core.errors import CertificateError, ConfigError, UnknownNameError


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a victim and of the features of a few utterances of the demo corpus."""
    folder = tmp_path_factory.mktemp("certify")
    corpus = ss.load_corpus("demo")
    by_label = sorted(corpus.utterances, key=lambda one: (one.label, one.id))
    few = chain.from_iterable(
        list(group)[:4] for _, group in groupby(by_label, key=lambda one: one.label)
    )
    store = ss.extract(
        dataclasses.replace(corpus, utterances=tuple(few)),
        ss.load_encoder("demo", layer=1),
        folder / "features",
    )
    ids = sorted(store.ids, key=lambda name: (name.split("_")[-1], name))
    fold = ss.Fold("half", train=ids[::2], validation=[], test=ids[1::2])
    victim = ss.train(store, fold, head="linear", epochs=30, learning_rate=0.01)
    return victim.save(folder / "victim"), store.folder


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(certify)
    return CliRunner().invoke(app, [str(one) for one in arguments])


def failing(*arguments: object) -> None:
    """Raise the error that the command raises."""
    fault = invoke(*arguments).exception
    assert fault is not None
    raise fault


def test_the_result_is_that_of_the_function(folders: tuple[Path, Path]) -> None:
    folder, features = folders
    result = invoke(folder, features, "--sparsity", 0.01, "--sparsity", 0.05, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    victim, store = ss.load_victim(folder), ss.FeatureStore(features)
    for cell in found["cells"]:
        names = list(cell["margins"])
        budget = ss.Budget(sparsity=cell["sparsity"], epsilon=cell["epsilon"])
        bound = ss.certify(victim, store.batch(names), store.labels(names), budget)
        assert (cell["method"], cell["proven"]) == ("affine", True)
        assert cell["certified"] == int(bound.certified.sum())
        margins = torch.tensor([cell["margins"][name] for name in names], dtype=torch.float64)
        assert torch.allclose(margins, bound.margin, rtol=0, atol=1e-5)
        assert (cell["explainer"], cell["scope"]) == (None, None)
    assert found["training_recordings"] == 0
    assert found["cells"][0]["certified_share"] >= found["cells"][1]["certified_share"]


def test_lines_are_tab_separated_outside_a_terminal(folders: tuple[Path, Path]) -> None:
    result = invoke(*folders, "--utterances", 3, "--method", "frame-ablation(samples=20)")
    assert result.exit_code == 0, result.output
    lines = [line.split("\t") for line in result.stdout.splitlines() if "\t" in line]
    assert lines[0][:3] == ["method", "mask", "sparsity"]
    assert lines[1][0] == "frame-ablation"
    assert "smoothed victim" in result.stderr


def test_a_bound_inside_a_mask_is_that_of_the_function(folders: tuple[Path, Path]) -> None:
    folder, features = folders
    options = ("--explainer", "gradient", "--scope", 4, "--epsilon", 2, "--json")
    result = invoke(folder, features, *options)
    assert result.exit_code == 0, result.output
    free, inside = json.loads(result.stdout)["cells"]
    assert (free["explainer"], inside["explainer"], inside["scope"]) == (None, "gradient", 4)
    victim, store = ss.load_victim(folder), ss.FeatureStore(features)
    names, budget = list(inside["margins"]), ss.Budget(sparsity=0.01, epsilon=2.0)
    batch, labels = store.batch(names), store.labels(names)
    sigma = ss.Sigma("gradient", "oneshot", scope=4)
    mask = sigma.mask(sigma.explain(victim, batch, labels), victim, batch, budget)
    bound = ss.certify(victim, batch, labels, budget, mask=mask)
    margins = torch.tensor([inside["margins"][name] for name in names], dtype=torch.float64)
    assert torch.allclose(margins, bound.margin, rtol=0, atol=1e-5)
    assert all(inside["margins"][name] >= free["margins"][name] - 1e-5 for name in names)
    result = invoke(*folders, "--utterances", 3, "--explainer", "gradient")
    masks = [line.split("\t")[1] for line in result.stdout.splitlines() if "\t" in line]
    assert masks == ["mask", "none", "gradient ×1", "gradient ×8"]


def test_a_wrong_method_is_an_error_before_the_features_are_read(
    folders: tuple[Path, Path],
) -> None:
    with pytest.raises(UnknownNameError, match="affine"):
        failing(folders[0], "no-store", "--method", "afine")
    with pytest.raises(UnknownNameError, match="gradient"):
        failing(folders[0], "no-store", "--explainer", "gradent")
    with pytest.raises(ConfigError, match="needs --explainer"):
        failing(folders[0], "no-store", "--scope", 4)
    with pytest.raises(CertificateError, match="kept"):
        failing(folders[0], "no-store", "--method", "frame-ablation(kept=0)")
    with pytest.raises(CertificateError, match="does not suit"):
        failing(*folders, "--method", "framewise")
