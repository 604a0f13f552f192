"""Training: heads learn, equal seeds give equal weights, and invalid input is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.testing.accelerator import accelerator
from sigma_ser.victims.evaluation import calibration_error, evaluate, predict_logits
from sigma_ser.victims.settings import AdversarialTraining
from sigma_ser.victims.training import train


@pytest.mark.slow
@pytest.mark.parametrize("head", registry.names("head"))
def test_every_head_learns_separable_classes(head: str, store, fold) -> None:
    settings = {"hidden": 16} if head == "ecapa" else {}
    victim = train(
        store, fold, head, head_settings=settings, epochs=20, batch_size=12, learning_rate=1e-2
    )
    assert victim.card.metrics["test"]["uar"] > 0.6
    assert victim.class_names == store.class_names


def test_the_same_seed_gives_the_same_weights_and_keeps_the_global_generator(store, fold) -> None:
    def weights(seed: int) -> str:
        return train(store, fold, "mlp", seed, epochs=2).fingerprint

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = weights(1)
    # Dropout and initialisation drew from a fork of the global generator.
    assert torch.equal(torch.rand(3), expected)
    assert first == weights(1) != weights(2)


def test_the_victim_carries_the_standardisation_of_its_training_part(store, fold) -> None:
    victim = train(store, fold, "linear", epochs=1)
    statistics = store.statistics(fold.train)
    torch.testing.assert_close(victim.mean, statistics.mean)
    torch.testing.assert_close(victim.scale, statistics.std)


@pytest.mark.parametrize("extra", [{"noise": 0.5}, {"mixup": 0.4}])
def test_regularisation_changes_the_outcome(extra: dict, store, fold) -> None:
    plain = train(store, fold, "linear", epochs=2)
    assert train(store, fold, "linear", epochs=2, **extra).fingerprint != plain.fingerprint


def test_training_stops_when_validation_no_longer_gains(store, fold) -> None:
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))

    train(store, fold, "mlp", epochs=40, patience=3, progress=progress)
    assert len(calls) < 40
    assert calls[-1] == (len(calls), 40)


def test_class_weights_raise_the_recall_of_a_rare_class(store, fold) -> None:
    rare = {name for name in fold.train if name.startswith("sad")}
    few = dataclasses.replace(
        fold, train=tuple(n for n in fold.train if n not in rare or n.endswith("5"))
    )
    weighted, plain = (
        train(store, few, "linear", epochs=25, learning_rate=1e-2, class_weights=on)
        for on in (True, False)
    )
    sad = [name for name in store.ids if name.startswith("sad")]
    found = [
        (predict_logits(victim, store, sad).argmax(1) == 2).sum() for victim in (weighted, plain)
    ]
    assert found[0] > found[1]


def test_invalid_folds_and_settings_are_refused(store, fold) -> None:
    without_sad = tuple(name for name in fold.train if not name.startswith("sad"))
    with pytest.raises(ss.errors.VictimError, match="no training utterance of sad"):
        train(store, dataclasses.replace(fold, train=without_sad), "mlp")
    one_sad = (*without_sad, next(name for name in fold.train if name.startswith("sad")))
    with pytest.raises(ss.errors.VictimError, match="only one training utterance of sad"):
        train(store, dataclasses.replace(fold, train=one_sad), "mlp")
    with pytest.raises(ss.errors.VictimError, match="no setting 'epoch'"):
        train(store, fold, "mlp", epoch=3)
    with pytest.raises(
        ss.errors.VictimError, match="head 'mlp' has no setting 'hiden'; did you mean hidden"
    ):
        train(store, fold, "mlp", head_settings={"hiden": 3})
    with pytest.raises(ss.errors.VictimError, match=r"loss became.*learning_rate"):
        train(store, fold, "linear", learning_rate=1e37, clip=1e30, epochs=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"patience": 0},
        {"learning_rate": 0.0},
        {"clip": math.nan},
        {"noise": -0.1},
        {"mixup": math.inf},
        {"weight_decay": -1.0},
        {"warmup": 1.0},
        {"label_smoothing": 1.2},
    ],
)
def test_settings_out_of_their_range_are_refused(wrong: dict, store, fold) -> None:
    (name,) = wrong
    with pytest.raises(ss.errors.VictimError, match=f"{name} (of training )?must"):
        train(store, fold, "linear", **wrong)


def test_adversarial_training_uses_attacked_features_within_the_budget(store, fold) -> None:
    """The attack is called on the victim in eval mode, and its features enter the loss."""
    budget = ss.Budget(sparsity=0.1, epsilon=1.0)
    inner = ss.make_attack("dual-averaging", steps=2)
    seen: list[tuple[float, bool]] = []

    def attack(victim, batch, labels, budget, *, mask=None, target=None, seeds=None):
        result = inner(victim, batch, labels, budget, seeds=seeds)
        moved = ((result.x_adv - batch.x) / victim.scale).abs().amax()
        seen.append((float(moved), victim.module.training))
        return result

    plan = AdversarialTraining(attack=attack, budget=budget, share=1.0)
    hardened = train(store, fold, "linear", epochs=2, adversarial=plan)
    assert max(moved for moved, _ in seen) == pytest.approx(1.0, abs=1e-5)
    assert not any(training for _, training in seen)
    assert hardened.fingerprint != train(store, fold, "linear", epochs=2).fingerprint
    with pytest.raises(ss.errors.VictimError, match=r"share must lie in \(0, 1\]"):
        AdversarialTraining(attack=attack, budget=budget, share=0.0)


def test_features_of_another_width_are_refused(store, fold) -> None:
    victim = train(store, fold, "linear", epochs=1)
    batch = store.batch(fold.test)
    with pytest.raises(ss.errors.ShapeError, match="but the features have 7"):
        victim(batch.x[:, :, :7], batch.lengths)


def test_scores_of_classes_and_speakers_and_classes_in_another_order(store, fold) -> None:
    victim = train(store, fold, "linear", epochs=6, learning_rate=1e-2)
    speakers = {name: "ab"[number % 2] for number, name in enumerate(fold.test)}
    scores = evaluate(victim, store, fold.test, speakers=speakers)
    assert sum(own["utterances"] for own in scores["speakers"].values()) == len(fold.test)
    hits = sum(own["accuracy"] * own["utterances"] for own in scores["speakers"].values())
    assert hits == pytest.approx(scores["accuracy"] * len(fold.test))
    assert scores["macro_f1"] == pytest.approx(
        np.mean([own["f1"] for own in scores["classes"].values()])
    )

    class Turned(torch.nn.Module):
        def forward(self, x, lengths):
            return victim(x, lengths).flip(1)

    turned = ss.wrap(Turned().eval(), class_names=victim.class_names[::-1])
    assert evaluate(turned, store, fold.test)["confusion"] == scores["confusion"]
    with pytest.raises(ss.errors.VictimError, match="give the victim's classes"):
        evaluate(ss.wrap(Turned().eval(), class_names=["x", "y", "z"]), store, fold.test)
    with pytest.raises(ss.errors.VictimError, match="no utterance to score"):
        evaluate(victim, store, [])


def test_scores_are_in_the_order_of_the_ids(store, fold) -> None:
    victim = train(store, fold, "linear", epochs=2)
    ids = list(reversed(fold.test))
    logits = predict_logits(victim, store, ids, batch_size=4)
    for row in (0, 7):
        alone = store.batch([ids[row]])
        torch.testing.assert_close(logits[row], victim(alone.x, alone.lengths)[0].detach())
    with accelerator() as device:
        assert torch.equal(predict_logits(victim.to(device), store, ids, batch_size=4), logits)
    scores = evaluate(victim, store, ids)
    assert np.trace(np.array(scores["confusion"])) == round(scores["accuracy"] * len(ids))


def test_calibration_error_of_known_cases() -> None:
    sure = torch.tensor([[50.0, 0.0], [50.0, 0.0]])
    assert calibration_error(sure, torch.tensor([True, True])) == pytest.approx(0, abs=1e-6)
    assert calibration_error(sure, torch.tensor([True, False])) == pytest.approx(0.5, abs=1e-6)
    torn = torch.zeros(4, 2)
    assert calibration_error(torn, torch.tensor([True, False, True, False])) == 0


def test_without_a_validation_part_the_last_epoch_is_kept(store, fold) -> None:
    # Past fault: the first epoch was kept, since no later one had a better validation score.
    whole = dataclasses.replace(fold, train=(*fold.train, *fold.validation), validation=())
    settings = {"batch_size": 12, "learning_rate": 1e-2, "patience": 2}
    victim = train(store, whole, "mlp", epochs=12, **settings)
    assert victim.card.training["epochs_run"] == 12
    assert victim.card.metrics["test"]["uar"] > 0.6


def test_logits_that_are_not_finite_are_an_error(store, fold) -> None:
    # Past fault: an IndexError in the calibration error.
    class Mute(torch.nn.Module):
        def forward(self, x, lengths):
            return torch.full((len(x), 3), torch.nan)

    with pytest.raises(ss.errors.VictimError, match=r"NaN or infinite logits .* first"):
        evaluate(ss.wrap(Mute().eval()), store, fold.test)
