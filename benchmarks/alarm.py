"""Do explanations give attacks away: alarms on saliency maps, and an attack that knows them.

    python benchmarks/alarm.py --out FILE --data tess=STORE:HEADS ravdess=STORE:HEADS \\
        [--heads mlp cnn transformer] [--utterances 48] [--sparsity 0.02] [--epsilon 0.5]

STORE and HEADS are those of `heads.py`. An alarm is a logistic regression on features of the map of
an input (`ss.evaluate.alarm`). It is fitted on clean utterances of the test part and their
successful `dual-averaging` perturbations, and measured on as many other utterances under several
attacks. It uses the four features of the map (`map`), the margin of the logits alone (`margin`), or
both (`all`). `evasion` is the attack that has the score of the same alarm in its objective. Each
line has the attack success rate, the AUROC over successful attacks and the detection rate at 5 %
false alarms with their intervals. The controls are random perturbations, and clean against clean
utterances. FILE receives one JSON record a line; cells that are there are not computed again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sigma_ser as ss
from certificates import recognised
from sigma_ser.evaluate.alarm import (
    FEATURES,
    Alarm,
    AlarmEvasion,
    MapFeatures,
    detection,
    fit_alarm,
)

USED = {"map": FEATURES[:4], "margin": FEATURES[4:], "all": FEATURES}
FITTED_ON = "dual-averaging"
SETTINGS: dict[str, dict[str, Any]] = {
    "dual-averaging": {},
    "spgd": {"steps": 20},
    "oneshot": {},
    "sigma-lambda": {"steps": 20},
    "random": {},
}


def training_part(store: ss.FeatureStore, victim: Any, most: int) -> tuple[ss.FeatureBatch, Tensor]:
    """Utterances of the training part, with every class."""
    names = list(victim.fold.train)
    view = victim.view(store)
    chosen = names[:: max(1, len(names) // most)]
    return view.batch(chosen), view.labels(chosen)


def cells(name: str, head: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All lines of one victim."""
    corpus, _, folders = name.partition("=")
    store_folder, _, heads = folders.partition(":")
    store, victim = ss.FeatureStore(store_folder), ss.load_victim(Path(heads) / head)
    source = MapFeatures.of(
        options.explainer, victim, *training_part(store, victim, options.training)
    )
    batch, labels = recognised(store, victim, 2 * options.utterances)
    halves = torch.arange(len(batch)) % 2
    fit, test = (halves == 0).nonzero()[:, 0], (halves == 1).nonzero()[:, 0]
    test = test[: len(fit)]
    budget = ss.Budget(sparsity=options.sparsity, epsilon=options.epsilon)
    saliency = ss.explain("gradient", victim, batch, labels)
    mask = ss.topk_mask(saliency, batch.lengths, budget, scope=8)

    def run(attack: Any, rows: Tensor, *, masked: bool) -> ss.AttackResult:
        frames = int(batch.lengths[rows].max())
        return attack(
            victim, batch.select(rows), labels[rows], budget,
            mask=mask[rows, :frames] if masked else None,
        )  # fmt: skip

    known = run(ss.make_attack(FITTED_ON), fit, masked=False)
    seen = source(known.features(batch.select(fit)))[known.success]
    clean_fit, clean = source(batch.select(fit)), source(batch.select(test))
    same = {
        "corpus": corpus, "head": head, "explainer": options.explainer,
        "sparsity": options.sparsity, "epsilon": options.epsilon,
        "fitted_on": int(known.success.sum()), "tested_on": len(test),
    }  # fmt: skip
    if len(seen) < 5:
        print(f"{corpus} {head}: only {len(seen)} attacks succeed, so no alarm is fitted")
        return
    alarms = {kind: fit_alarm(source, clean_fit, seen, used=used) for kind, used in USED.items()}
    even, odd = (clean[at::2][: len(clean) // 2] for at in (0, 1))
    for kind, alarm in alarms.items():
        yield same | {"alarm": kind} | line(alarm, even, odd, None, "none", masked=False)
    for attack, settings in SETTINGS.items():
        for masked in (False, True):
            result = run(ss.make_attack(attack, **settings), test, masked=masked)
            values = source(result.features(batch.select(test)))
            for kind, alarm in alarms.items():
                yield (
                    same
                    | {"alarm": kind}
                    | line(alarm, clean, values, result, attack, masked=masked)
                )
    for kind, alarm in alarms.items():
        for masked in (False, True):
            evasion = AlarmEvasion(alarm=alarm, saliency=options.explainer, steps=options.steps)
            result = run(evasion, test, masked=masked)
            values = source(result.features(batch.select(test)))
            yield (
                same
                | {"alarm": kind}
                | line(alarm, clean, values, result, "evasion", masked=masked)
            )


def line(
    alarm: Alarm,
    clean: Tensor,
    attacked: Tensor,
    result: ss.AttackResult | None,
    attack: str,
    *,
    masked: bool,
) -> dict[str, Any]:
    """One line; attacks count where they succeed, controls everywhere."""
    counts = None if result is None or attack == "random" else result.success.numpy()
    found = {
        "attack": attack, "mask": "gradient, 8 k" if masked else "none",
        "asr": 0.0 if result is None else round(float(result.success.float().mean()), 3),
    }  # fmt: skip
    if counts is not None and not counts.any():
        return found
    scores = [alarm.of_features(values).numpy() for values in (clean, attacked)]
    figures = dataclasses.asdict(detection(*scores, counts))
    return found | {name: round(value, 3) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, help="NAME=STORE:HEADS")
    parser.add_argument("--heads", nargs="+", default=["mlp", "cnn", "transformer"])
    parser.add_argument("--utterances", type=int, default=48, help="to fit, and to measure")
    parser.add_argument("--training", type=int, default=96, help="for the mean maps of the classes")
    parser.add_argument("--explainer", default="input-x-gradient")
    parser.add_argument("--steps", type=int, default=20, help="of the evasion")
    parser.add_argument("--sparsity", type=float, default=0.02)
    parser.add_argument("--epsilon", type=float, default=0.5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    kept = options.out.read_text("utf-8").splitlines() if options.out.exists() else []
    done = {(one["corpus"], one["head"]) for one in map(json.loads, kept)}
    for data in options.data:
        for head in options.heads:
            if (data.partition("=")[0], head) in done:
                continue
            lines = [json.dumps(one) for one in cells(data, head, options)]
            with options.out.open("a", encoding="utf-8") as file:
                file.writelines(one + "\n" for one in lines)
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
