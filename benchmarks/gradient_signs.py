"""Signs of masked gradients: false alarms on plain victims, and signs found on shielded ones.

    python benchmarks/gradient_signs.py --work WORK [--corpus tess tess-word DATA/tess] \\
        [--utterances 24] [--size 400] [--attack] [--out FILE.json]

Extracts the features of each corpus (the demo always) with the demo encoder into WORK, trains every
registered head on the first fold, and prints the signs that `ss.check_gradients` finds; they should
be none. The same for linear classifiers from `ss.wrap` and, on the demo, for small classifiers of
transformers. Then the `mlp` head of the demo behind shields, each of which should have a sign; with
`--attack` also the success rates of `sigma-autoattack` and of `sparse-rs` with 500 queries.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import sigma_ser as ss
from measuring import record, table, write_records
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.corpora.folds import Fold

BUDGET = ss.Budget(sparsity=0.01, epsilon=1.0)
Call = Callable[[Tensor, Tensor], Tensor]
Shield = Callable[[Call, Tensor, Tensor, Tensor], Tensor]


def straight_through(value: Tensor, unit: float | Tensor) -> Tensor:
    return value + (torch.round(value / unit) * unit - value).detach()


# From the logits of the victim, features, lengths and the deviations of the channels.
SHIELDS: dict[str, Shield] = {
    "rounded logits": lambda z, x, n, s: torch.round(z(x, n) * 2) / 2,
    "finely rounded logits": lambda z, x, n, s: torch.round(z(x, n) * 20) / 20,
    "quantised features": lambda z, x, n, s: z(torch.round(x / s * 2) * s / 2, n),
    "probabilities": lambda z, x, n, s: z(x, n).softmax(-1),
    "saturated probabilities": lambda z, x, n, s: (z(x, n) * 1000).softmax(-1),
    "saturated logits": lambda z, x, n, s: torch.tanh(z(x, n) * 1000),
    "straight-through logits": lambda z, x, n, s: straight_through(z(x, n), 0.5),
    "straight-through features": lambda z, x, n, s: z(straight_through(x, s / 2), n),
    "opposite gradient": lambda z, x, n, s: z(2 * x.detach() - x, n),
    "noisy features": lambda z, x, n, s: z(x + 0.3 * s * torch.randn_like(x), n),
    "noisy logits": lambda z, x, n, s: z(x, n) + 0.2 * torch.randn_like(z(x, n)),
    "detached": lambda z, x, n, s: z(x.detach(), n),
}


class Shielded(nn.Module):
    """A trained victim behind a shield."""

    def __init__(self, victim: ss.TrainedVictim, shield: Shield) -> None:
        super().__init__()
        self.module, self.shield, self.scale = victim.module, shield, victim.scale

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.shield(self.module, x, lengths, self.scale)


class MeanLinear(nn.Linear):
    """A linear layer on the mean over time."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(x.sum(1) / lengths[:, None])


def features(
    work: Path, name: str, root: Path | None, protocol: str, size: int
) -> tuple[ss.FeatureStore, Fold]:
    """Features of at most about `size` utterances of a corpus, and its first fold."""
    corpus = ss.load_corpus(name, root)
    step = max(1, len(corpus) // size)
    corpus: Corpus = dataclasses.replace(corpus, utterances=corpus.utterances[::step])
    store = ss.extract(corpus, ss.load_encoder("demo"), work / name / "store")
    return store, ss.make_folds(corpus, protocol)[0]


def head_of(work: Path, store: ss.FeatureStore, fold: Fold, name: str) -> ss.TrainedVictim:
    """The head, trained on the fold where it is not there."""
    folder = work / str(store.card["corpus"]["name"]) / name
    if (folder / "card.json").is_file():
        return ss.load_victim(folder)
    victim = ss.train(store, fold, head=name, epochs=15, patience=4)
    victim.save(folder)
    return victim


def plain(
    work: Path, store: ss.FeatureStore, fold: Fold, ids: tuple[str, ...]
) -> Iterator[tuple[str, ss.Victim, Tensor]]:
    """Every head, and linear classifiers with the logits of their own in two units."""
    batch, labels = store.batch(ids), store.labels(ids)
    for name in ss.registry.names("head"):
        yield name, head_of(work, store, fold, name), labels
    for factor in (1.0, 1e3):
        torch.manual_seed(0)
        module = MeanLinear(batch.x.shape[2], 4)
        with torch.no_grad():
            module.weight.mul_(factor)
        victim = ss.wrap(module.eval(), scale=batch.x.std((0, 1)))
        yield f"wrapped linear x {factor:g}", victim, victim(batch.x, batch.lengths).argmax(1)


def transformers_classifiers(work: Path) -> Iterator[tuple[str, ss.Victim, int]]:
    """Small random classifiers, and the number of channels of their last but one layer."""
    import transformers

    for family in ("Wav2Vec2", "Hubert", "WavLM"):
        folder = work / f"tiny-{family}"
        if not (folder / "config.json").is_file():
            torch.manual_seed(0)
            config = getattr(transformers, f"{family}Config")(
                hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=48,
                conv_dim=(8, 8), conv_kernel=(10, 8), conv_stride=(80, 4), num_labels=4,
                num_feat_extract_layers=2, num_conv_pos_embeddings=8,
                num_conv_pos_embedding_groups=2, classifier_proj_size=16,
            )  # fmt: skip
            model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.2 * torch.randn(parameter.shape))
            model.save_pretrained(folder)
            (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
        yield f"hf:{family}", ss.load_victim(f"hf:{folder}", layer=1), 32


def checked(
    setting: str, victim: ss.Victim, batch: ss.FeatureBatch, labels: Tensor
) -> dict[str, Any]:
    """The number of signs, with their names in the setting."""
    check = ss.check_gradients(victim, batch, labels, BUDGET)
    signs = ", ".join(check.warnings) or "none"
    print(f"{setting}: {signs} ({check.utterances} recognised, {check.passes:.0f} passes each, "
          f"unbounded {check.unbounded}, wins {check.black_box_wins})", flush=True)  # fmt: skip
    return record("signs", f"{setting}: {signs}", len(check.warnings), "")


def attacked(
    name: str, victim: ss.Victim, batch: ss.FeatureBatch, labels: Tensor
) -> dict[str, Any]:
    """The success rate of the ensemble beside that of random search."""
    with torch.no_grad():
        known = victim(batch.x, batch.lengths).argmax(1) == labels
    found = ss.attack("sigma-autoattack", victim, batch, labels, BUDGET).success[known]
    control = ss.attack("sparse-rs", victim, batch, labels, BUDGET, queries=500).success[known]
    setting = f"{name}: {int(found.sum())} and {int(control.sum())} of {int(known.sum())}"
    print(setting, flush=True)
    lead = float(found.float().mean() - control.float().mean())
    return record("sigma-autoattack - sparse-rs", setting, lead, "", at_least=0.0)


def main() -> None:
    """Check, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="features and heads; reused")
    parser.add_argument("--corpus", nargs=3, action="append", default=[],
                        metavar=("NAME", "PROTOCOL", "ROOT"))  # fmt: skip
    parser.add_argument("--utterances", type=int, default=24, help="of the test part")
    parser.add_argument("--size", type=int, default=400, help="utterances of a corpus, about")
    parser.add_argument("--attack", action="store_true", help="compare attacks on shields")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)

    lines = []
    for name, protocol, root in [("demo", "demo-voices", None), *given.corpus]:
        store, fold = features(given.work, name, root and Path(root), protocol, given.size)
        ids = fold.test[:: max(1, len(fold.test) // given.utterances)][: given.utterances]
        batch = store.batch(ids)
        for member, victim, labels in plain(given.work, store, fold, ids):
            lines.append(checked(f"{name}, {member}", victim, batch, labels) | {"met": None})
        if name == "demo":
            demo = head_of(given.work, store, fold, "mlp"), batch, store.labels(ids)
    lines = [{**line, "target": "none", "met": not line["value"]} for line in lines]
    for member, victim, channels in transformers_classifiers(given.work):
        rng = torch.Generator().manual_seed(1)
        batch = ss.FeatureBatch(
            torch.randn(given.utterances, 30, channels, generator=rng),
            torch.full((given.utterances,), 30),
        )
        with torch.no_grad():
            labels = victim(batch.x, batch.lengths).argmax(1)
        line = checked(member, victim, batch, labels)
        lines.append({**line, "target": "none", "met": not line["value"]})
    victim, batch, labels = demo
    for name, shield in SHIELDS.items():
        torch.manual_seed(0)
        shielded = ss.wrap(Shielded(victim, shield).eval(), mean=victim.mean, scale=victim.scale)
        line = checked(name, shielded, batch, labels)
        lines.append({**line, "target": "some", "met": line["value"] > 0})
        if given.attack:
            lines.append(attacked(name, shielded, batch, labels))
    print(table(lines))
    write_records(given.out, lines)


if __name__ == "__main__":
    main()
