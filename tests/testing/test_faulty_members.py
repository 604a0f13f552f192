"""A member that breaks a law fails its check with one sentence that says which, and how."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.audio.corruptions import Corruption
from sigma_ser.audio.corruptions.base import at_snr
from sigma_ser.corpora import Card, Entry, Listing
from sigma_ser.testing import (
    ConformanceError,
    check_attack,
    check_corpus,
    check_corruption,
    check_encoder,
    check_explainer,
    check_head,
)
from sigma_ser.victims.pooling import mean_pool


@dataclass(frozen=True)
class Wrapped:
    """A correct attack; its children break one law each."""

    inner: Any = field(default_factory=lambda: ss.make_attack("oneshot"))
    granularities: ClassVar[tuple[str, ...]] = ("element",)

    def __call__(
        self,
        victim: ss.Victim,
        batch: ss.FeatureBatch,
        labels: Tensor,
        budget: ss.Budget,
        **given: Any,
    ) -> ss.AttackResult:
        return self.broken(
            self.inner(victim, batch, labels, budget, **given), victim, batch, labels
        )

    def broken(self, result: ss.AttackResult, *_: Any) -> ss.AttackResult:
        return result


class OverBudget(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        x_adv = result.x_adv + 0.01 * (result.x_adv != given[1].x)
        return dataclasses.replace(result, x_adv=x_adv)


class ManyElements(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        moved = given[1].x + 1e-3 * given[1].valid[:, :, None]
        return dataclasses.replace(
            result, x_adv=torch.where(result.steps[:, None, None] > 0, moved, result.x_adv)
        )


class OnPadding(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        return dataclasses.replace(
            result, x_adv=result.x_adv.masked_fill(~given[1].valid[:, :, None], 1.0)
        )


class Infinite(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        return dataclasses.replace(result, x_adv=result.x_adv / 0.0)


class OtherInCompany(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        victim, batch, _ = given
        # Slightly inside the bound, so that rounding does not exceed it.
        delta = 0.99 * (result.x_adv - batch.x) / len(batch)
        x_adv = batch.x + delta
        prediction = victim(x_adv, batch.lengths).argmax(1)
        return dataclasses.replace(
            result, x_adv=x_adv.detach(), prediction=prediction, success=prediction != given[2]
        )

    def __call__(self, *given: Any, **named: Any) -> ss.AttackResult:
        target = named.get("target")
        result = super().__call__(*given, **named)
        return (
            result
            if target is None
            else dataclasses.replace(result, success=result.prediction == target)
        )


class ChangesLabels(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        given[2].add_(0 * given[2]).remainder_(2)
        return result


class ChangesFeatures(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        given[1].x.copy_(result.x_adv)
        return result


class ClaimsSuccess(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        return dataclasses.replace(result, success=torch.ones_like(result.success))


class ClaimsPrediction(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        return dataclasses.replace(result, prediction=(result.prediction + 1) % 3)


class DrawsGlobally(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        torch.rand(1)
        return result


class CountsWithTheBatch(Wrapped):
    def broken(self, result: ss.AttackResult, *given: Any) -> ss.AttackResult:
        return dataclasses.replace(result, forwards=result.forwards + len(result.forwards))


class HidesSettings(Wrapped):
    def __repr__(self) -> str:
        return "HidesSettings()"


def test_the_attack_that_is_broken_below_is_correct() -> None:
    check_attack(Wrapped())


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (OverBudget, "breaks its budget: .* more than epsilon="),
        (ManyElements, "breaks its budget: .* more than its budget of elements"),
        (OnPadding, "breaks its budget: .* changes padding"),
        (Infinite, "breaks its budget: .* is not finite"),
        (OtherInCompany, "another result for an utterance alone than in a batch"),
        (ChangesFeatures, "changes its argument batch in place"),
        (ChangesLabels, "changes its argument labels in place"),
        (ClaimsSuccess, "claims a false success"),
        (ClaimsPrediction, "claims a false prediction"),
        (DrawsGlobally, "global random number generator"),
        (CountsWithTheBatch, "counts other forwards for an utterance alone"),
        (HidesSettings, "does not show its setting inner in its repr"),
    ],
)
def test_a_faulty_attack_fails_with_a_sentence(attack: type[Wrapped], said: str) -> None:
    with pytest.raises(ConformanceError, match=said) as caught:
        check_attack(attack())
    assert str(caught.value).startswith(attack.__name__)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, ss.SigmaError)


@dataclass(frozen=True)
class Map:
    """A map that is made of the features; `fault` breaks a law."""

    fault: str = ""
    kind: ClassVar[str] = "attribution"

    def __call__(
        self,
        victim: ss.Victim,
        batch: ss.FeatureBatch,
        labels: Tensor,
        *,
        seeds: Tensor | None = None,
    ) -> ss.Explanation:
        saliency = batch.x.clone().masked_fill(~batch.valid[:, :, None], 0.0)
        match self.fault:
            case "padding":
                saliency = saliency.masked_fill(~batch.valid[:, :, None], 1.0)
            case "company":
                saliency /= saliency.std()
                saliency = saliency + saliency.mean() * batch.valid[:, :, None]
            case "seeds":
                saliency *= 1 + np.random.default_rng().random()
            case "infinite":
                saliency /= 0.0
            case "hooks":
                victim.module.register_forward_hook(lambda *_: None)  # type: ignore[attr-defined]
        passes = torch.ones(len(batch), dtype=torch.long)
        return ss.Explanation(saliency, passes, passes)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("padding", "not 0 on padding"),
        ("company", "another map for an utterance alone"),
        ("seeds", "another map for the same seeds|another map for an utterance alone"),
        ("infinite", "not finite"),
        ("hooks", "changes its argument victim in place"),
    ],
)
def test_a_faulty_explainer_fails_with_a_sentence(fault: str, said: str) -> None:
    check_explainer(Map())
    with pytest.raises(ConformanceError, match=f"^Map .*({said})"):
        check_explainer(Map(fault))


class Head(nn.Module):
    """A linear probe; `fault` breaks a law."""

    def __init__(self, channels: int, classes: int, *, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.classify = nn.Linear(channels, classes)
        self.offset = torch.randn(classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        match self.fault:
            case "padding":
                return self.classify(x.mean(1))
            case "company":
                pooled = mean_pool(x, lengths)
                return self.classify(pooled - pooled.mean(0))
            case "first frame":
                return self.classify(x[:, 0])
            case "not saved":
                return self.classify(mean_pool(x, lengths)) + self.offset
            case "one logit":
                return self.classify(mean_pool(x, lengths))[:, :1]
        return self.classify(mean_pool(x, lengths))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("padding", "gradient that is not 0 on padding"),
        ("company", "same logits for an utterance alone"),
        ("first frame", "every frame"),
        ("not saved", "not restored by its saved weights"),
        ("one logit", r"does not return logits \(4, 5\)"),
    ],
)
def test_a_faulty_head_fails_with_a_sentence(fault: str, said: str) -> None:
    check_head(Head)
    with pytest.raises(ConformanceError, match=f"^Head .*{said}"):
        check_head(Head, settings={"fault": fault})


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("relative", "which is not absolute"),
        ("place", "folder of the corpus lies elsewhere"),
        ("label", "without a label"),
        ("writes", "changes files of the corpus"),
        ("empty", "lists no recording"),
        ("id", "no file name"),
    ],
)
def test_a_faulty_corpus_fails_with_a_sentence(
    fault: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "clips"
    root.mkdir()
    for number in range(3):
        wave = 0.1 * np.random.default_rng(number).standard_normal(4000)
        soundfile.write(root / f"{number}.wav", wave, 16_000)

    class Reader:
        card, official, default_root = Card("mine"), None, None

        def __init__(self, fault: str = "") -> None:
            self.fault = fault

        def list(self, folder: Path) -> Listing:
            listing = Listing()
            for path in sorted(folder.glob("*.wav")):
                name, label = path.stem, "happy"
                match self.fault:
                    case "relative":
                        path = path.relative_to(tmp_path)  # noqa: PLW2901
                    case "place":
                        name = f"{folder.parent.name}-{name}"
                    case "label":
                        label = ""
                    case "writes":
                        (folder / "index.txt").write_text("0")
                    case "empty":
                        continue
                    case "id":
                        name = f"clips/{name}"
                listing.entries.append(Entry(ss.Utterance(name, path, label)))
            return listing

    check_corpus(Reader(), root)
    with pytest.raises(ConformanceError, match=f"^Reader .*{said}"):
        check_corpus(Reader(fault), root)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("frames", "promises .* frames"),
        ("company", "for a wave alone than in company"),
        ("changes", "changes the waves"),
        ("short", "shorter than its receptive field instead of raising"),
        ("card", "card that is not plain data"),
    ],
)
def test_a_faulty_encoder_fails_with_a_sentence(
    fault: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ss.load_encoder("demo")
    inner = encoder.encode
    kind = type(encoder)

    def encode(self: Any, waves: Any, batched: bool = True) -> list[Tensor]:
        match fault:
            case "changes":
                waves[0][0] = 0.5
            case "short":
                waves = [np.pad(one, (0, max(0, 400 - len(one)))) for one in waves]
        found = inner(waves, batched)
        return [one + len(waves) for one in found] if fault == "company" else found

    monkeypatch.setattr(kind, "encode", encode)
    if fault == "frames":
        monkeypatch.setattr(kind, "frames", lambda self, samples: samples // 320 + 1)
    if fault == "card":
        encoder.card["layer"] = (1, 2)
    with pytest.raises(ConformanceError, match=f"^{kind.__name__} .*{said}"):
        check_encoder(encoder)


@dataclass(frozen=True, kw_only=True)
class Change(Corruption):
    """Noise at a ratio; `fault` breaks a law."""

    fault: str = ""
    snr: float = 10.0

    def apply(self, wave: Any, rng: np.random.Generator) -> Any:
        noise = rng.standard_normal(len(wave))
        match self.fault:
            case "ratio":
                return at_snr(wave, noise, self.snr + 0.1)
            case "nothing":
                return wave
            case "infinite":
                noise /= np.sign(np.square(wave).sum())  # of silence
            case "numpy":
                np.random.rand()  # noqa: NPY002
            case "seeds":
                noise = np.random.default_rng().standard_normal(len(wave))
        return at_snr(wave, noise, self.snr)

    def __call__(self, batch: ss.FeatureBatch, *, seeds: Tensor | None = None) -> Tensor:
        match self.fault:
            case "channels":
                batch = ss.FeatureBatch(batch.x[:, :, :1], batch.lengths, batch.ids)
            case "in place":
                batch.x.mul_(0.5)
        found = super().__call__(batch, seeds=seeds)
        match self.fault:
            case "padding":
                return found.masked_fill(~batch.valid[:, :, None], 0.1)
            case "company":
                return found + 1e-3 * (found.mean() + len(found)) * batch.valid[:, :, None]
            case "length":
                return found[:, :-1]
        return found


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("ratio", "misses its signal-to-noise ratio of 10.0 dB by up to 0.1 dB"),
        ("nothing", "changes no recording at all"),
        ("infinite", "returns samples that are not finite"),
        ("numpy", "global random number generator of numpy"),
        ("seeds", "another result for an utterance|another result when it is called again"),
        ("channels", "takes features of 2 channels for waves"),
        ("in place", "changes its argument batch in place"),
        ("padding", "changes padding"),
        ("company", "misses its signal|another result for an utterance alone than in a batch"),
        ("length", r"does not return detached float32 waves \(3, 9600, 1\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero|invalid value:RuntimeWarning")
def test_a_faulty_corruption_fails_with_a_sentence(fault: str, said: str) -> None:
    check_corruption(Change())
    with pytest.raises(ConformanceError, match=f"^Change .*({said})"):
        check_corruption(Change(fault=fault))
