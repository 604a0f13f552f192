"""Pretrain the embedded encoder by masked prediction of cluster ids, on synthetic speech only.

    python tools/pretrain_encoder.py synthesise --work DIR   # about 12 minutes on one core
    python tools/pretrain_encoder.py targets --work DIR      # about 5 minutes
    python tools/pretrain_encoder.py train --work DIR        # about 40 minutes on two shared cores
    python tools/pretrain_encoder.py export --work DIR --out src/sigma_ser/demo/encoder

``train`` goes on from the last checkpoint. The rate warms up, stays, and falls over the last
quarter of ``--steps``, so a run may be shortened or lengthened while it is still on the plateau.
Every step draws its batch from a generator of its own, so a resumed run sees the same batches.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from augmentation import damage, normalise
from encoder_model import IGNORED, MASK_LENGTH, Pretraining, export
from pretraining_speech import synthesise
from pretraining_targets import RECEPTIVE, STRIDE, frames_of, load_speech, make_targets

CROP_FRAMES = 100
CROP = (CROP_FRAMES - 1) * STRIDE + RECEPTIVE


class Crops:
    """Random 2-second crops with the targets of their frames; short clips end in silence."""

    def __init__(self, folder: Path) -> None:
        self.samples, self.bounds = load_speech(folder)
        self.targets = np.load(folder / "targets.npy")
        self.descriptions = np.load(folder / "descriptions.npy", mmap_mode="r")
        frames = [frames_of(int(length)) for length in np.diff(self.bounds)]
        self.frame_bounds = np.concatenate([[0], np.cumsum(frames)])
        long = np.flatnonzero(np.array(frames) >= CROP_FRAMES // 2)
        # the last 128 clips are never trained on: their loss shows overfitting
        self.train, self.held_out = long[:-128], long[-128:]

    def batch(self, clips: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Waves ``(B, CROP)``, targets ``(B, CROP_FRAMES, codebooks)``, descriptions."""
        waves = np.zeros((len(clips), CROP), np.float32)
        targets = np.full((len(clips), CROP_FRAMES, self.targets.shape[1]), IGNORED, np.int64)
        dense = np.zeros((*targets.shape[:2], self.descriptions.shape[1]), np.float32)
        for i, clip in enumerate(clips):
            available = int(self.frame_bounds[clip + 1] - self.frame_bounds[clip])
            first = int(rng.integers(max(1, available - CROP_FRAMES + 1)))
            start = self.bounds[clip] + first * STRIDE
            wave = self.samples[start : min(start + CROP, self.bounds[clip + 1])]
            waves[i, : len(wave)] = wave.astype(np.float32) / 32768.0
            row, count = self.frame_bounds[clip] + first, min(available, CROP_FRAMES)
            targets[i, :count] = self.targets[row : row + count]
            dense[i, :count] = self.descriptions[row : row + count]
        return waves, targets, dense


def draw_mask(batch: int, rng: np.random.Generator, share: float = 0.045) -> np.ndarray:
    """Spans of 10 frames; each frame starts one with probability ``share`` (about 41 % masked)."""
    starts = rng.random((batch, CROP_FRAMES)) < share
    starts[np.arange(batch), rng.integers(CROP_FRAMES, size=batch)] = True
    mask = np.zeros_like(starts)
    for shift in range(MASK_LENGTH):
        mask[:, shift:] |= starts[:, : CROP_FRAMES - shift]
    return mask


def rate_at(step: int, steps: int, peak: float, warm_up: int = 80) -> float:
    """Warm-up, plateau, and a cosine to zero over the last quarter."""
    fall = max(1, steps // 4)
    progress = np.clip((step - (steps - fall)) / fall, 0.0, 1.0)
    return peak * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + float(np.cos(np.pi * progress)))


@torch.no_grad()
def held_out_loss(model: Pretraining, crops: Crops, batch: int) -> float:
    """Loss on clips that were never trained on, clean, with fixed crops and masks."""
    model.eval()
    rng = np.random.default_rng(0)
    losses = []
    for first in range(0, len(crops.held_out), batch):
        waves, *rest = crops.batch(crops.held_out[first : first + batch], rng)
        mask = torch.from_numpy(draw_mask(len(waves), rng))
        report = model(*map(torch.from_numpy, (normalise(waves), *rest)), mask)
        losses.append(float(report["loss"]))
    model.train()
    return float(np.mean(losses))


def average_over_processes(model: Pretraining, report: dict[str, torch.Tensor]) -> None:
    """Average gradients and measurements in one message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    values = torch.stack([value.detach() for value in report.values()])
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients] + [values])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    begin = 0
    for gradient in gradients:
        gradient.copy_(flat[begin : begin + gradient.numel()].view_as(gradient))
        begin += gradient.numel()
    report.update(zip(report, flat[begin:], strict=True))


def make_optimiser(model: Pretraining, peak: float) -> torch.optim.AdamW:
    """AdamW; no decay on biases, norms and the mask embedding."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))


def log_row(path: Path, row: dict[str, float | str]) -> None:
    """Append to the loss curve."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


def train(rank: int, options: argparse.Namespace, port: int) -> None:
    """One of ``--threads`` processes with one thread each: they meet once a step.

    Threads inside one process meet at every operator, which is slow on a machine that others use.
    """
    torch.set_num_threads(1)
    world, every = options.threads, options.every
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    crops = Crops(options.work)
    torch.manual_seed(options.seed)
    model = Pretraining(options.seed).train()
    optimiser = make_optimiser(model, options.rate)
    first, spent = 0, 0.0
    checkpoint = options.work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first, spent = state["step"], state["seconds"]
    began, sums, counted = time.time(), {}, 0
    for step in range(first, options.steps):
        clips = np.random.default_rng([options.seed, step]).choice(
            crops.train, options.batch, replace=False
        )[rank::world]
        rng = np.random.default_rng([options.seed, step, rank])
        waves, *rest = crops.batch(clips, rng)
        mask = torch.from_numpy(draw_mask(len(clips), rng))
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, options.steps, options.rate)
        heard = damage(waves, rng)
        # at recording level, but with the scale that unit variance will have
        heard = heard * 20.0 if step < options.level_until else normalise(heard)
        report = model(*map(torch.from_numpy, (heard, *rest)), mask)
        optimiser.zero_grad(set_to_none=True)
        report["loss"].backward()
        average_over_processes(model, report)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if rank:
            continue
        for key, value in report.items():
            sums[key] = sums.get(key, 0.0) + float(value)
        counted += 1
        now = spent + time.time() - began
        if (step + 1) % 25 == 0:
            means = {key: round(value / counted, 4) for key, value in sums.items()}
            held_out = ""
            if (step + 1) % every == 0:
                held_out = round(held_out_loss(model, crops, options.batch), 4)
            row = {"step": step + 1, "seconds": round(now, 1), **means, "held_out_loss": held_out}
            log_row(options.work / "loss.csv", row)
            sums, counted = {}, 0
        if (step + 1) % every == 0 or step + 1 == options.steps:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(),
                     "step": step + 1, "seconds": now}  # fmt: skip
            torch.save(state, options.work / "checkpoint.tmp")
            (options.work / "checkpoint.tmp").replace(checkpoint)
    distributed.destroy_process_group()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=("synthesise", "targets", "train", "export"))
    parser.add_argument("--work", type=Path, required=True, help="speech and checkpoints")
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=5200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    level = "keep recording levels up to this step, then unit variance"
    parser.add_argument("--level-until", type=int, default=3200, help=level)
    parser.add_argument("--seed", type=int, default=20260630)
    parser.add_argument("--threads", type=int, default=2)
    default = Path(__file__).parents[1] / "src" / "sigma_ser" / "demo" / "encoder"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.stage == "synthesise":
        synthesise(options.work, options.clips, options.seed, options.threads)
    elif options.stage == "targets":
        make_targets(options.work, options.seed, options.threads)
    elif options.stage == "train":
        port = 29_500 + os.getpid() % 1000
        torch.multiprocessing.spawn(train, (options, port), nprocs=options.threads)
    else:
        model = Pretraining()
        state = torch.load(options.work / "checkpoint.pt", weights_only=True)
        model.load_state_dict(state["model"])
        export(model.encoder, options.out)
        print(f"step {state['step']}, {state['seconds'] / 3600:.2f} hours -> {options.out}")


if __name__ == "__main__":
    main()
