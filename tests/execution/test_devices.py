"""Everything runs where `evaluation.device` says, tried on the stand-in for an accelerator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, VictimError
from sigma_ser.execution.devices import executor_settings, moved, ready
from sigma_ser.testing import example_batch, example_settings, example_victim
from sigma_ser.testing.accelerator import DEVICE, accelerator

BUDGET = ss.Budget(sparsity=0.1, epsilon=1.0)
# Thousands of steps, each many times slower than without the stand-in.
LONG = {
    "cornersearch", "ead", "homotopy", "sapf", "sigma-autoattack", "sparse-autoattack", "staa-net",
}  # fmt: skip
SHORT = {
    "greedyfool": {"steps": 5}, "onepixel": {"candidates": 4, "generations": 2},
    "pgd0": {"steps": 3}, "reselect": {"steps": 3}, "fmn-l0": {"steps": 5},
    "sigma-zero": {"steps": 5}, "sparse-rs": {"queries": 20},
}  # fmt: skip
# As long; or they need a victim with weights of attention, or with ReLU.
ELSEWHERE = {"kernel-shap", "rise", "attention", "guided-backprop"}


def test_the_stand_in_refuses_what_a_device_refuses() -> None:
    here = torch.ones(3)
    with accelerator() as device:
        there = here.to(device)
        assert (there.device, (there + 1).device, here.device) == (
            DEVICE,
            DEVICE,
            torch.device("cpu"),
        )
        assert torch.zeros(2, device=there.device).is_cuda
        assert not torch.zeros(2).is_cuda
        assert there.cpu().numpy().sum() == 3
        assert there[torch.tensor([1])].is_cuda
        assert (there * torch.tensor(2.0)).is_cuda
        for wrong in (
            lambda: there + here,
            lambda: torch.cat([here, there]),
            lambda: here[torch.tensor([0]).to(device)],
            lambda: torch.randn(2, device=device, generator=torch.Generator()),
        ):
            with pytest.raises(RuntimeError, match="cpu"):
                wrong()
        for convert in (there.numpy, lambda: np.asarray(there)):
            with pytest.raises(TypeError, match="numpy"):
                convert()
    assert type(torch.zeros(1).to("cpu")) is torch.Tensor


@pytest.mark.parametrize("name", sorted(set(registry.names("attack")) - LONG))
def test_attacks_run_on_a_device(name: str) -> None:
    if ":" in name:
        pytest.skip("an attack of another library")
    victim = example_victim()
    batch = example_batch(victim)
    labels = victim(batch.x, batch.lengths).argmax(1)
    settings = example_settings(name) | SHORT.get(name, {})
    mask = batch.valid[:, :, None].expand(batch.x.shape).clone()
    mask[:, ::2] = False
    inside = BUDGET if not name.endswith(("pgd", "fgsm")) else ss.Budget(sparsity=1.0, epsilon=1.0)
    expected = ss.attack(ss.make_attack(name, **settings), victim, batch, labels, inside, mask=mask)
    with accelerator() as device:
        found = ss.attack(
            ss.make_attack(name, **settings), victim.to(device), batch.to(device),
            labels.to(device), inside, mask=mask.to(device),
        )  # fmt: skip
        assert found.x_adv.device == device
        assert torch.equal(found.x_adv.cpu(), expected.x_adv)
        assert torch.equal(found.success.cpu(), expected.success)


@pytest.mark.parametrize("name", sorted(set(registry.names("explainer")) - ELSEWHERE))
def test_explainers_run_on_a_device(name: str) -> None:
    victim = example_victim()
    batch = example_batch(victim)
    labels = victim(batch.x, batch.lengths).argmax(1)
    expected = ss.explain(name, victim, batch, labels)
    with accelerator() as device:
        found = ss.explain(name, victim.to(device), batch.to(device), labels.to(device))
        assert found.device == device
        torch.testing.assert_close(found.cpu(), expected)
        assert ss.topk_mask(found, batch.to(device).lengths, BUDGET).device == device


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        ready("cuda")
    assert ready("cpu") == torch.device("cpu")


def test_studies_on_cuda_have_one_process_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert executor_settings("cuda", "processes", {}) == {"devices": ["0", "1"]}
    assert executor_settings("cuda", "processes", {"workers": 3}) == {"workers": 3}
    assert (
        executor_settings("cpu", "processes", {}) == executor_settings("cuda", "inline", {}) == {}
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert executor_settings("cuda", "processes", {}) == {"devices": ["5"]}


def test_kernels_on_a_device_compute_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    for name in ("allow_tf32", "deterministic", "benchmark"):
        monkeypatch.setattr(cudnn, name, getattr(cudnn, name))
    with accelerator() as device:
        assert ready("cuda") == device
    assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == (False, True, False)


def test_victims_that_cannot_move_say_so() -> None:
    class Foreign:
        pass

    with accelerator() as device, pytest.raises(ConfigError, match=r"to\(device\)"):
        moved(Foreign(), device)
    encoder = ss.load_encoder("demo")
    below = ss.wrap(ss.heads.EmoBox(encoder.dim, 3, hidden=8).eval())
    with pytest.raises(VictimError, match="load_encoder"):
        ss.on_waveform(encoder, below).to("cpu")


def test_a_victim_that_moves_is_a_copy() -> None:
    victim = example_victim()
    with accelerator() as device:
        there = victim.to(device)
        assert there.scale.device == device
        assert next(there.module.parameters()).device == device
        assert not next(victim.module.parameters()).is_cuda


def test_a_batch_that_is_there_already_is_not_copied() -> None:
    batch = example_batch(example_victim())
    assert batch.to("cpu") is batch
