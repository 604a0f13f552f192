"""A saved victim loads as the same victim, or loading raises an error that names the fault."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core.files import content_key
from sigma_ser.victims.checkpoint import TrainedVictim
from sigma_ser.victims.settings import AdversarialTraining
from sigma_ser.victims.training import train, trained_before


@pytest.fixture(scope="module")
def victim(store, fold) -> TrainedVictim:
    return train(store, fold, "mlp", epochs=1, head_settings={"hidden": 8})


def test_a_loaded_victim_gives_the_same_logits(victim, store, fold, folder: Path) -> None:
    loaded = ss.load_victim(victim.save(folder))
    batch = store.batch(fold.test)
    assert torch.equal(loaded(batch.x, batch.lengths), victim(batch.x, batch.lengths))
    assert loaded.card == victim.card
    assert loaded.fingerprint == victim.fingerprint


def test_saving_twice_gives_the_same_bytes(victim, tmp_path: Path) -> None:
    first, second = (victim.save(tmp_path / name) for name in "ab")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_a_victim_is_saved_with_its_fold(victim, fold, folder: Path) -> None:
    victim.save(folder)
    assert ss.load_victim(folder).fold == fold
    kept = folder / "fold.json"
    kept.write_text(kept.read_text("utf-8").replace("angry-20", "angry-25"), "utf-8")
    with pytest.raises(ss.errors.VictimError, match=r"fold\.json (has changed|is damaged)"):
        ss.load_victim(folder)


def test_a_victim_of_an_earlier_version_is_one_without_a_fold(victim, folder: Path) -> None:
    path = victim.save(folder) / "card.json"
    card = json.loads(path.read_text("utf-8"))
    del card["fold_key"]
    reseal(path, card)
    (folder / "fold.json").unlink()
    assert ss.load_victim(folder).fold is None


def test_a_changed_byte_is_found(victim, folder: Path) -> None:
    weights = victim.save(folder) / "victim.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(ss.errors.VictimError, match="has changed since it was saved"):
        ss.load_victim(folder)


def test_a_changed_byte_of_the_card_is_found(victim, folder: Path) -> None:
    path = victim.save(folder) / "card.json"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"neutral"', '"neutrax"', 1), "utf-8")
    with pytest.raises(ss.errors.VictimError, match=r"card\.json has changed"):
        ss.load_victim(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.pop("head"), "another version"),
        (lambda card: card["head_settings"].update(hidden=9), "another version"),
        (lambda card: card.update(head="bilstn"), "did you mean bilstm"),
        (lambda card: card.pop("weights_sha256"), "has changed"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(victim, folder: Path, change, message: str) -> None:
    path = victim.save(folder) / "card.json"
    card = json.loads(path.read_text("utf-8"))
    change(card)
    # As another version would have written it; a changed byte is another test.
    reseal(path, card)
    with pytest.raises(ss.SigmaError, match=message):
        ss.load_victim(folder)


def reseal(path: Path, card: dict) -> None:
    card.pop("seal")
    path.write_text(json.dumps({**card, "seal": content_key(card)}), "utf-8")


def test_a_card_without_its_seal_is_refused(victim, folder: Path) -> None:
    path = victim.save(folder) / "card.json"
    card = json.loads(path.read_text("utf-8"))
    del card["seal"]
    path.write_text(json.dumps(card), "utf-8")
    with pytest.raises(ss.errors.VictimError, match=r"card\.json has no seal; train again"):
        ss.load_victim(folder)


def test_a_card_that_is_nested_without_end_is_one_sentence(victim, folder: Path) -> None:
    path = victim.save(folder) / "card.json"
    path.write_text("[" * 100_000, "utf-8")
    with pytest.raises(ss.errors.VictimError, match=r"card\.json is damaged .*nested more than"):
        ss.load_victim(folder)


def test_a_card_that_is_no_object_is_damaged(victim, folder: Path) -> None:
    victim.save(folder)
    (folder / "card.json").write_text("[]", "utf-8")
    with pytest.raises(ss.errors.VictimError, match="is damaged"):
        ss.load_victim(folder)


def test_a_folder_without_victim_is_named(tmp_path: Path) -> None:
    with pytest.raises(ss.errors.VictimError, match=r"is not a saved victim .it has no card\.json"):
        ss.load_victim(tmp_path)


def test_a_victim_of_the_same_arguments_is_found_and_of_others_refused(
    victim, store, fold, folder: Path
) -> None:
    arguments = {"store": store, "fold": fold, "head": "mlp", "seed": 0}
    arguments |= {"head_settings": {"hidden": 8}, "training": {"epochs": 1}}
    assert trained_before(folder, **arguments) is None
    victim.save(folder)
    found = trained_before(folder, **arguments)
    assert found is not None
    assert found.fingerprint == victim.fingerprint
    # Settings that are given with their default values are the same settings.
    same = {**arguments, "training": {"epochs": 1, "noise": 0.0, "class_weights": True}}
    assert trained_before(folder, **same) is not None
    plan = AdversarialTraining(attack=ss.make_attack("fgsm"), budget=ss.Budget(sparsity=0.1))
    smaller = dataclasses.replace(fold, train=fold.train[1:])
    changes = [
        ("head", {"head": "linear"}),
        ("head_settings", {"head_settings": {}}),
        ("seed", {"seed": 1}),
        ("training", {"training": {"epochs": 2}}),
        ("training", {"adversarial": plan}),
        ("fold_key", {"fold": smaller}),
        ("store_key", {"store": _relabelled(store)}),
    ]
    for name, change in changes:
        with pytest.raises(ss.errors.VictimError, match=rf"trained with other settings \({name}\)"):
            trained_before(folder, **{**arguments, **change})


def test_adversarial_training_is_compared_by_attack_and_budget(store, fold, folder: Path) -> None:
    def plan(steps: int) -> AdversarialTraining:
        attack = ss.make_attack("dual-averaging", steps=steps)
        return AdversarialTraining(attack=attack, budget=ss.Budget(sparsity=0.1))

    train(store, fold, "linear", epochs=1, adversarial=plan(1)).save(folder)
    arguments = {"store": store, "fold": fold, "head": "linear", "training": {"epochs": 1}}
    assert trained_before(folder, **arguments, adversarial=plan(1)) is not None
    for other in (plan(2), None):
        with pytest.raises(ss.errors.VictimError, match=r"other settings \(training\)"):
            trained_before(folder, **arguments, adversarial=other)


def _relabelled(store):
    """The same features with the key of another corpus."""
    other = type(store)()
    other.card = {**store.card, "corpus": {"name": "small", "key": "other"}}
    return other


def test_features_of_another_encoder_are_refused(victim, store) -> None:
    victim.check_encoder(store.card["encoder"])
    with pytest.raises(ss.errors.VictimError, match="layer 2 against 3"):
        victim.check_encoder({**store.card["encoder"], "layer": 3})
    # The same weights under another path are the same encoder.
    victim.check_encoder({**store.card["encoder"], "name": "elsewhere", "torch": "9.0"})


def test_wrap_refuses_modules_with_random_or_meaningless_results() -> None:
    class Mean(torch.nn.Linear):
        def forward(self, x, lengths):
            return super().forward(x.sum(1) / lengths[:, None])

    module = Mean(4, 3)
    with pytest.raises(ss.errors.VictimError, match=r"module\.eval\(\)"):
        ss.wrap(module.train())
    with pytest.raises(ss.errors.VictimError, match="scale"):
        ss.wrap(module.eval(), scale=0.0)
    wrapped = ss.wrap(module, class_names=["a", "b"])
    x, lengths = torch.zeros(2, 3, 4), torch.tensor([3, 3])
    with pytest.raises(
        ss.errors.VictimError, match="returned 3 logits, but class_names has 2 names"
    ):
        wrapped(x, lengths)
    wrapped = ss.wrap(module, class_names=["a", "b", "c"])
    before = [p.clone() for p in module.parameters()]
    wrapped(x.requires_grad_(), lengths).sum().backward()
    module.train()
    with pytest.raises(ss.errors.VictimError, match="training mode"):
        wrapped(x, lengths)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
