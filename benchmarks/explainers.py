"""Explainers on real speech: quality, cost, and what attacks make of their masks; and speed.

    python benchmarks/explainers.py speed
    python benchmarks/explainers.py table --features STORE --victims HEADS --work SCRATCH_FOLDER \\
        [--heads mlp cnn transformer] [--epsilon 0.5] [--utterances 48] [--quality 24]

STORE and HEADS are those of `heads.py`. `table` adds each explainer's line to `table.json` in the
scratch folder as soon as it is known, where a second call finds it. Use one thread
(OMP_NUM_THREADS=1) for comparable seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import sigma_ser as ss
from measuring import Ratio, in_turns, ratio, record, write_records
from sigma_ser.core.contracts import Attack, Explanation
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.evaluate.quality.measures import QualitySettings, quality
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.masks.bank import MaskBank
from sigma_ser.masks.topk import explainer_mask

EXPLAINERS = (
    "gradient", "gradient-margin", "smoothgrad", "vargrad", "guided-backprop", "input-x-gradient",
    "integrated-gradients", "expected-gradients", "gradient-shap", "deeplift", "deeplift-shap",
    "occlusion", "feature-ablation", "kernel-shap", "lime", "rise", "grad-cam", "attention",
    "adversarial-path", "greedy-support", "sparse-path",
    "random",
)  # fmt: skip
SCOPES = (2, 4, 8, 16)
SPARSITY = 0.02


def speed(arguments: argparse.Namespace) -> None:
    """Integrated Gradients beside bare passes and beside Captum's own; the bank's share."""
    from captum.attr import IntegratedGradients

    from sigma_ser.victims.checkpoint import make_head
    from sigma_ser.victims.victim import Standardised

    rng = torch.Generator().manual_seed(0)
    frames, channels, rows, chunk, steps = 80, 384, 16, 64, 32
    x = torch.randn(rows, frames, channels, generator=rng)
    lengths = torch.full((rows,), frames)
    labels = torch.arange(rows) % 7
    batch = FeatureBatch(x, lengths, [f"u{row}" for row in range(rows)])
    explainer = make_explainer("integrated-gradients", steps=steps, rows=chunk)
    found = []
    print(
        "| head | bare s | ours s | ours / bare | ours / Captum | bank ms | bank / 10-step pgd |\n"
        "|---|--:|--:|--:|--:|--:|--:|"
    )
    for head in arguments.heads:
        torch.manual_seed(0)
        module = Standardised(
            make_head(head, channels, 7, {}), torch.zeros(channels), torch.ones(channels)
        )
        victim = ss.wrap(module.eval(), mean=module.mean, scale=module.scale)
        expanded, many = x.repeat(chunk // rows, 1, 1), lengths.repeat(chunk // rows)

        def bare(victim=victim, expanded=expanded, many=many) -> None:
            for _ in range(steps * rows // chunk):
                leaf = expanded.detach().requires_grad_()
                logits = victim(leaf, many)
                chosen = logits.gather(1, labels.repeat(chunk // rows)[:, None])
                torch.autograd.grad(chosen.sum(), leaf)

        def captum(victim=victim) -> None:
            method = IntegratedGradients(victim)
            method.attribute(
                x, baselines=0.0 * x, target=labels, additional_forward_args=(lengths,),
                n_steps=steps, internal_batch_size=chunk,
            )  # fmt: skip

        def ours(victim=victim) -> None:
            explainer(victim, batch, labels)

        times = in_turns([bare, ours, captum], arguments.rounds)
        over, beside = ratio(times[1], times[0]), ratio(times[1], times[2])
        reading, share = read_share(head, victim, batch, labels, arguments.work)
        seconds = [statistics.median(one) for one in times]
        found += [
            record("Integrated Gradients over bare passes", head, over, "x"),
            record("Integrated Gradients over Captum's", head, beside, "x", at_most=1.0),
            record("a mask out of the bank over 10 steps of pgd", head, share, "x", at_most=0.01),
        ]
        print(
            f"| {head} | {seconds[0]:.2f} | {seconds[1]:.2f} | {over} | {beside} "
            f"| {1e3 * reading:.2f} | {100 * share.median:.2f} % |",
            flush=True,
        )
    write_records(arguments.out, found)


def read_share(
    head: str, victim: ss.Victim, batch: FeatureBatch, labels: torch.Tensor, work: Path
) -> tuple[float, Ratio]:
    """What a mask out of the bank costs, and its share of an attack of ten steps."""
    budget = ss.Budget(sparsity=SPARSITY, epsilon=1.0)
    bank = MaskBank(
        work / "bank", make_explainer("gradient"), victim, features="noise", fingerprint=head
    )
    bank.fill(batch, labels)
    mask = bank.mask(batch, labels, budget, 8)
    predicted = victim(batch.x, batch.lengths).argmax(1)
    attack = ss.make_attack("pgd", steps=10)
    # Nobody is fooled, so all ten steps are done.
    weak = ss.Budget(sparsity=budget.sparsity * 8, epsilon=1e-4)
    reads = 20
    times = in_turns(
        [
            lambda: [bank.mask(batch, labels, budget, 8) for _ in range(reads)],
            lambda: attack(victim, batch, predicted, weak, mask=mask),
        ],
        5,
    )
    single = [seconds / reads for seconds in times[0]]
    return statistics.median(single), ratio(single, times[1])


def table(arguments: argparse.Namespace) -> None:
    """Every explainer on every head."""
    store = ss.FeatureStore(arguments.features)
    unseen = json.loads((arguments.victims / "unseen.json").read_text("utf-8"))
    trained = {head: ss.load_victim(arguments.victims / head) for head in arguments.heads}
    arguments.work.mkdir(parents=True, exist_ok=True)
    result = arguments.work / "table.json"
    budget = ss.Budget(sparsity=SPARSITY, epsilon=arguments.epsilon)
    lines = json.loads(result.read_text()) if result.exists() else []
    known = {(line["head"], line["explainer"]) for line in lines}
    for head, victim in trained.items():
        batch, labels = correct(store, unseen, victim, arguments.utterances)
        todo: list[str | None] = [None, *EXPLAINERS]
        for name in todo:
            if (head, name) in known:
                continue
            line = {"head": head, "explainer": name, "utterances": len(batch)}
            line |= free(victim, batch, labels, budget) if name is None else {}
            if name is not None:
                try:
                    line |= one_explainer(
                        name, victim, batch, labels, budget=budget, count=arguments.quality
                    )
                except ExplainerError as refusal:
                    line["refused"] = str(refusal)
            lines.append(line)
            result.write_text(json.dumps(lines, indent=1))
            print(json.dumps(line), flush=True)
    print(markdown(lines))


def correct(
    store: Any, ids: list[str], victim: Any, count: int
) -> tuple[FeatureBatch, torch.Tensor]:
    """Utterances never trained on that the victim gets right, drawn at random."""
    chosen: list[str] = []
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0)).tolist()
    for start in range(0, len(order), 64):
        part = [ids[row] for row in order[start : start + 64]]
        batch = store.batch(part)
        with torch.no_grad():
            hit = victim(batch.x, batch.lengths).argmax(1) == store.labels(part)
        chosen += [name for name, right in zip(part, hit.tolist(), strict=True) if right]
        if len(chosen) >= count:
            break
    chosen = chosen[:count]
    return store.batch(chosen), store.labels(chosen)


def one_explainer(
    name: str,
    victim: Any,
    batch: FeatureBatch,
    labels: torch.Tensor,
    *,
    budget: ss.Budget,
    count: int,
) -> dict[str, Any]:
    """Quality on the first `count` utterances, cost and success rates on all."""
    explainer = make_explainer(name)
    started = time.process_time()
    explained = explanation(explainer, victim, batch, labels)
    seconds = (time.process_time() - started) / len(batch)
    few = torch.arange(min(count, len(batch)))
    part = batch.select(few)
    known = Explanation(
        explained.saliency[few, : part.x.shape[1]],
        explained.forwards[few],
        explained.backwards[few],
        None if explained.completeness is None else explained.completeness[few],
    )
    measures = quality(
        explainer, victim, part, labels[few], known=known, how=QualitySettings(samples=2)
    )
    line: dict[str, Any] = {
        measure: float(values.double().nanmean())
        for measure, values in measures.items()
        if measure != "completeness"
    }
    if "completeness" in measures:
        line["completeness"] = float(measures["completeness"].abs().max())
    line["seconds"] = seconds
    for scope in (1, *SCOPES):
        mask = explainer_mask(explainer, explained, victim, batch, budget, scope)
        attack = ss.make_attack("pgd", steps=40) if scope == 1 else native()
        line[f"asr_{scope}"] = rate(attack, victim, batch, labels, budget=budget, mask=mask)
    return line


def native() -> Attack:
    """The free attack, and the one inside the scopes."""
    return ss.make_attack("dual-averaging")


def free(
    victim: Any, batch: FeatureBatch, labels: torch.Tensor, budget: ss.Budget
) -> dict[str, Any]:
    """The attack that picks its own support."""
    return {"asr_free": rate(native(), victim, batch, labels, budget=budget, mask=None)}


def rate(
    attack: Attack,
    victim: Any,
    batch: FeatureBatch,
    labels: torch.Tensor,
    *,
    budget: ss.Budget,
    mask: Any,
) -> float:
    """Share of the utterances that are fooled."""
    result = attack(victim, batch, labels, budget, mask=mask)
    return float(result.success.double().mean())


def markdown(lines: list[dict[str, Any]]) -> str:
    """The lines as tables, one a head."""
    columns = {
        "deletion": "{:.2f}", "insertion": "{:.2f}", "gini": "{:.2f}", "max_sensitivity": "{:.2f}",
        "randomisation": "{:.2f}", "completeness": "{:.4f}", "forwards": "{:.0f}",
        "backwards": "{:.0f}", "seconds": "{:.3f}",
        **{f"asr_{scope}": "{:.0%}" for scope in (1, *SCOPES)},
    }  # fmt: skip
    text = []
    for head in dict.fromkeys(line["head"] for line in lines):
        here = [line for line in lines if line["head"] == head]
        unbound = next(line["asr_free"] for line in here if line["explainer"] is None)
        text.append(
            f"\n**{head}**, {here[0]['utterances']} utterances, free attack {unbound:.0%}\n"
        )
        text.append("| explainer | " + " | ".join(columns) + " |")
        text.append("|---|" + "--:|" * len(columns))
        for line in here:
            if line["explainer"] is None or "refused" in line:
                continue
            cells = [form.format(line[c]) if c in line else "" for c, form in columns.items()]
            text.append(f"| `{line['explainer']}` | " + " | ".join(cells) + " |")
        refused = [f"`{line['explainer']}`" for line in here if "refused" in line]
        text.append(f"\nRefused: {', '.join(refused) or 'none'}.")
    return "\n".join(text)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=["speed", "table"])
    parser.add_argument("--features", type=Path, help="the store that heads.py filled")
    parser.add_argument("--victims", type=Path, help="the folder that heads.py filled")
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"))
    parser.add_argument("--heads", nargs="+", default=["mlp", "cnn", "transformer"])
    parser.add_argument("--epsilon", type=float, default=0.5)
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--quality", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="`speed` writes its figures here, as JSON")
    arguments = parser.parse_args()
    {"speed": speed, "table": table}[arguments.what](arguments)


if __name__ == "__main__":
    main()
