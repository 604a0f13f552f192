"""Do explanations give attacks away: alarms on saliency maps, and an attack that knows them.

    python benchmarks/alarm.py --out FILE --data tess=STORE:HEADS ravdess=STORE:HEADS \\
        [--heads mlp cnn transformer] [--utterances 48] [--sparsity 0.02] [--epsilon 0.5]

STORE and HEADS are those of `heads.py`. The alarms of `sigma_ser.evaluate.alarm.assess_alarms` are
fitted on correctly classified utterances of the test part and their successful `dual-averaging`
perturbations, and measured on as many others: several attacks, natively and in masks of 8 budgets
from the gradient, random perturbations and clean utterances as controls, and the attack that knows
the alarm. FILE receives one JSON record a line; victims that are there are not computed again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sigma_ser as ss
from certificates import recognised
from sigma_ser.core.errors import ExplainerError
from sigma_ser.evaluate.alarm import MapFeatures, assess_alarms

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


def cells(name: str, head: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All lines of one victim; none where the attack succeeds too rarely."""
    corpus, _, folders = name.partition("=")
    store_folder, _, heads = folders.partition(":")
    store, victim = ss.FeatureStore(store_folder), ss.load_victim(Path(heads) / head)
    source = MapFeatures.of(
        options.explainer, victim, *training_part(store, victim, options.training)
    )
    batch, labels = recognised(store, victim, 2 * options.utterances)
    half = len(batch) // 2
    parts = [torch.arange(half), torch.arange(half, 2 * half)]
    fitting, testing = ((batch.select(rows), labels[rows]) for rows in parts)
    budget = ss.Budget(sparsity=options.sparsity, epsilon=options.epsilon)
    saliency = ss.explain("gradient", victim, *testing)
    mask = ss.topk_mask(saliency, testing[0].lengths, budget, scope=8)
    try:
        table = assess_alarms(
            source, fitting, testing, budget,
            fitted_on=ss.make_attack("dual-averaging"),
            attacks={name: ss.make_attack(name, **given) for name, given in SETTINGS.items()},
            masks={"gradient, 8 k": mask},
            evasion={"saliency": options.explainer, "steps": options.steps},
        )  # fmt: skip
    except ExplainerError as fault:
        print(f"{corpus} {head}: {fault}", flush=True)
        return []
    same = {
        "corpus": corpus, "head": head, "explainer": options.explainer, "tested_on": half,
        "sparsity": options.sparsity, "epsilon": options.epsilon,
    }  # fmt: skip
    return [
        {**same, **{k: round(v, 3) if isinstance(v, float) else v for k, v in one.items()}}
        for one in table.to_dicts()
    ]


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
