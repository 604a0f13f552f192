"""The study that `sigma-ser init` prints is valid as it is, for every corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

import sigma_ser as ss
from sigma_ser.cli.study_template import study_template
from sigma_ser.core.errors import UnknownNameError
from sigma_ser.study.loading import load_study
from sigma_ser.study.name_checks import check_names


@pytest.mark.parametrize("corpus", ["demo", "tess", "manifest"])
def test_it_is_a_valid_study(tmp_path: Path, corpus: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(study_template(corpus, 'a "quoted" folder\\list.csv'), "utf-8")
    loaded = load_study(file, [])
    check_names(loaded)
    (section,) = loaded.config.corpus or ()
    assert section.name == corpus
    assert section.root == tmp_path / 'a "quoted" folder\\list.csv'
    assert set(section.protocol) <= set(ss.registry.names("protocol"))


def test_only_the_embedded_corpus_needs_no_folder(tmp_path: Path) -> None:
    assert "\n# root =" in study_template("demo")
    assert "\nroot =" in study_template("tess")
    with pytest.raises(UnknownNameError, match="did you mean tess"):
        study_template("tes")
