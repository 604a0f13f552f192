"""How wide a mask must be: SIGMA in scopes of every map, on the explained and on other victims.

    python benchmarks/scopes.py --out OUT --data tess=STORE:HEADS [--heads cnn transformer]
        [--scopes 1 2 4 8 16] [--maps NAME ...] [--utterances 32] [--sparsity 0.02] [--epsilon 0.5]

STORE and HEADS are those of `heads.py`. The attack is dual averaging; the yardstick is its success
without a mask (free). A line has the success in each scope as a share of the free one, first on
the explained victim (own), then on the others with the same masks; and, in OUT/scopes.jsonl under
`contained`, the share of the elements that the free attack changed, where it succeeded, that lie in
the mask. Then, for each map and scope, the matrix of explained against attacked victims. Finished
cells are kept in that file. Maps beside the registered explainers:

- `product`: Integrated Gradients times gradient of the margin, each divided by its mean;
- `corners`: gradient of the margin averaged over 8 random corners of the dense ball of epsilon;
- `consensus:MAP`: mean of MAP over all heads but the attacked one, each divided by its mean;
  `consensus:MAP+MAP` takes the mean over several maps too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sigma_ser as ss
from measuring import record, write_records
from sigma_ser.attacks.losses import margin
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.explainers.ranking import ranking_scale, ranking_scores
from strength import Question, questions

MAPS = (
    "gradient", "gradient-margin", "smoothgrad", "integrated-gradients", "expected-gradients",
    "adversarial-path", "greedy-support", "random", "product", "corners", "sparse-path",
    "consensus:gradient-margin", "consensus:adversarial-path",
)  # fmt: skip


def scores(
    name: str, source: Question, batch: ss.FeatureBatch, labels: Tensor, epsilon: float
) -> Tensor:
    """What ranks the elements: at least 0, zero on padding."""
    victim = source.victim
    if name == "product":
        return _even(scores("integrated-gradients", source, batch, labels, epsilon)) * _even(
            scores("gradient-margin", source, batch, labels, epsilon)
        )
    if name == "corners":
        rng, total = torch.Generator().manual_seed(0), torch.zeros_like(batch.x)
        for _ in range(8):
            signs = torch.randint(2, batch.x.shape, generator=rng) * 2 - 1
            total += _gradient(victim, batch, labels, batch.x + signs * epsilon * victim.scale)
        return ranking_scores(total, batch.lengths, scale=victim.scale)
    explainer = make_explainer(name)
    found = explanation(explainer, victim, batch, labels)
    scale = ranking_scale(explainer.kind, victim, batch)
    return ranking_scores(found.saliency, batch.lengths, scale=scale)


def _gradient(victim: Any, batch: ss.FeatureBatch, labels: Tensor, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(margin(victim(x, batch.lengths), labels).sum(), x)
    return slope.masked_fill(~batch.valid[:, :, None], 0.0)


def _even(map_: Tensor) -> Tensor:
    """Divided by its mean, so that maps of several victims weigh alike."""
    return map_ / map_.mean((1, 2), keepdim=True).clamp(min=1e-30)


def measure(
    name: str,
    attacked: Question,
    asked: list[Question],
    free: ss.AttackResult,
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """The cells of one map on one attacked victim; `free` is the attack without a mask."""
    batch, labels, epsilon = attacked.batch, attacked.labels, options.epsilon
    budget = ss.Budget(sparsity=options.sparsity, epsilon=epsilon)
    attack = ss.make_attack("dual-averaging")
    others = [one for one in asked if one.head != attacked.head]
    if name == "free":
        yield {"source": "free", "scope": 0, "asr": float(free.success.float().mean())}
        return
    changed = (free.x_adv != batch.x) & free.success[:, None, None]
    if name.startswith("consensus:"):
        maps = [
            _even(scores(kind, one, batch, labels, epsilon))
            for one in others
            for kind in name.partition(":")[2].split("+")
        ]
        sources = {"+".join(one.head for one in others): torch.stack(maps).mean(0)}
    else:
        found = [attacked] if name in {"random"} else [attacked, *others]
        sources = {one.head: scores(name, one, batch, labels, epsilon) for one in found}
    for source, ranking in sources.items():
        for scope in options.scopes:
            mask = ss.topk_mask(ranking, batch.lengths, budget, scope)
            result = attack(attacked.victim, batch, labels, budget, mask=mask)
            yield {
                "source": source, "scope": scope, "asr": float(result.success.float().mean()),
                "contained": float((changed & mask).sum() / changed.sum().clamp(min=1)),
            }  # fmt: skip


def table(cells: list[dict[str, Any]], scopes: list[int]) -> Iterator[str]:
    """Markdown: success in each scope as a share of the free attack's."""
    for victim in dict.fromkeys(cell["victim"] for cell in cells):
        here = [cell for cell in cells if cell["victim"] == victim]
        free = next(cell["asr"] for cell in here if cell["source"] == "free")
        count = here[0]["utterances"]
        yield f"\nAttacked: {victim}, {count} utterances, free success {100 * free:.0f} %\n"
        yield "| map | explained victim | " + " | ".join(f"scope {m}" for m in scopes) + " |"
        yield "|---|---|" + "--:|" * len(scopes)
        head = victim.split("/")[1]
        rows = dict.fromkeys((c["map"], c["source"]) for c in here if c["source"] != "free")
        for name, source in sorted(rows, key=lambda row: row[1] != head):
            got = {
                cell["scope"]: cell["asr"] / free if free else float("nan")
                for cell in here
                if (cell["map"], cell["source"]) == (name, source)
            }
            whose = "own" if source == head else source
            shown = " | ".join(f"{got[m]:.2f}" if m in got else "" for m in scopes)
            yield f"| {name} | {whose} | {shown} |"


def matrix(cells: list[dict[str, Any]], name: str, scope: int) -> Iterator[str]:
    """Markdown: one map at one scope, lines: explained victim, columns: attacked victim.

    A figure is the success as a share of the free attack's, and in brackets the share of the right
    support in the mask. Bold: 0.7 of another victim, 0.9 of the attacked one.
    """
    free = {c["victim"]: c["asr"] for c in cells if c["source"] == "free"}
    here = [c for c in cells if c["scope"] == scope]
    sources = list(dict.fromkeys(c["source"] for c in here if c["map"] == name))
    lines = {
        source: {c["victim"]: c for c in here if (c["map"], c["source"]) == (name, source)}
        for source in sources
    }
    lines["mean of the others"] = {
        c["victim"]: c for c in here if c["map"] == f"consensus:{name}"
    }  # fmt: skip
    lines["`random`, the control"] = {c["victim"]: c for c in here if c["map"] == "random"}
    titles = [f"{victim.split('/')[1]} ({100 * free[victim]:.0f} %)" for victim in free]
    yield f"\n`{name}`, scope {scope}\n"
    yield "| map of | " + " | ".join(titles) + " |"
    yield "|---|" + "--:|" * len(titles)
    for title, found in lines.items():
        texts = []
        for victim, whole in free.items():
            cell = found.get(victim)
            if cell is None or not whole:
                texts.append("")
                continue
            own = title == victim.split("/")[1]
            kept = cell["asr"] / whole
            shown = f"**{kept:.2f}**" if kept >= (0.9 if own else 0.7) else f"{kept:.2f}"
            texts.append(f"{shown} ({cell['contained']:.2f})")
        if any(texts):
            yield f"| {title} | " + " | ".join(texts) + " |"


def records(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Success as a share of the free one; at scope 8 beside 0.9 (own) or 0.7 (another's)."""
    free = {cell["victim"]: cell["asr"] for cell in cells if cell["source"] == "free"}
    for cell in cells:
        whole = free[cell["victim"]]
        if cell["source"] == "free" or not whole:
            continue
        own = cell["source"] == cell["victim"].split("/")[1]
        # Random elements and the mean of other heads are there for comparison.
        judged = cell["scope"] == 8 and cell["map"] != "random" and "+" not in cell["source"]
        yield record(
            f"share of the free success, scope {cell['scope']}, {cell['map']}",
            f"{cell['victim']}, map of {'itself' if own else cell['source']}",
            cell["asr"] / whole, "x", at_least=(0.9 if own else 0.7) if judged else None,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", action="append", required=True, help="NAME=STORE:HEADS")
    parser.add_argument("--heads", nargs="+", default=["cnn", "transformer"])
    parser.add_argument("--maps", nargs="+", default=MAPS)
    parser.add_argument("--scopes", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--utterances", type=int, default=32)
    parser.add_argument("--sparsity", type=float, default=0.02)
    parser.add_argument("--epsilon", type=float, default=0.5)
    parser.add_argument("--records", type=Path, help="also the figures as flat records, JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "scopes.jsonl"
    kept = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for corpus in options.data:
        asked = list(questions([corpus], options.heads, options.utterances))
        budget = ss.Budget(sparsity=options.sparsity, epsilon=options.epsilon)
        for attacked in asked:
            free = ss.attack(
                "dual-averaging", attacked.victim, attacked.batch, attacked.labels, budget
            )
            for name in ["free", *options.maps]:
                key = [attacked.key, name, options.scopes, options.sparsity, options.epsilon,
                       options.heads]  # fmt: skip
                if any(cell["key"] == key for cell in kept):
                    continue
                same = {"victim": f"{attacked.corpus}/{attacked.head}", "map": name, "key": key,
                        "utterances": len(attacked.batch)}  # fmt: skip
                cells = [same | cell for cell in measure(name, attacked, asked, free, options)]
                kept += cells
                with log.open("a") as lines:
                    lines.writelines(json.dumps(cell) + "\n" for cell in cells)
                shown = " ".join(f"{c['source']}@{c['scope']}:{100 * c['asr']:.0f}" for c in cells)
                print(f"{same['victim']} {name}: {shown}", flush=True)
    lines = list(table(kept, options.scopes))
    for name in options.maps:
        if name != "random" and not name.startswith("consensus:"):
            lines += [line for scope in options.scopes for line in matrix(kept, name, scope)]
    text = "\n".join(lines) + "\n"
    write_records(options.records, list(records(kept)))
    (options.out / "scopes.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
