"""Explainers on real speech: quality, cost, and what attacks make of their masks; and speed.

    python benchmarks/explainers.py speed
    python benchmarks/explainers.py table --root FOLDER_OF_TESS --encoder FOLDER_OF_WHISPER \\
        --work SCRATCH_FOLDER [--heads mlp bilstm cnn] [--utterances 48] [--quality 24]

`table` extracts features and trains the heads into the scratch folder, where a second call finds
them, and adds each explainer's line to `table.json` there as soon as it is known. Use one thread
(OMP_NUM_THREADS=1) for comparable seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import sigma_ser as ss
from sigma_ser.core.contracts import Attack, Explanation
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.evaluate.consistency_rank import spearman
from sigma_ser.evaluate.quality import QualitySettings, quality
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.masks.bank import MaskBank
from sigma_ser.masks.topk import explainer_mask

EXPLAINERS = (
    "gradient", "gradient-margin", "smoothgrad", "vargrad", "guided-backprop", "input-x-gradient",
    "integrated-gradients", "expected-gradients", "gradient-shap", "deeplift", "deeplift-shap",
    "occlusion", "feature-ablation", "kernel-shap", "lime", "rise", "grad-cam", "attention",
    "adversarial-path", "greedy-support",
    "random",
)  # fmt: skip
SCOPES = (2, 4, 8, 16)
BUDGET = {"sparsity": 0.01, "epsilon": 1.0}


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Least processor seconds of several runs, after one that warms up: others may share it."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def speed(arguments: argparse.Namespace) -> None:
    """Integrated Gradients against bare passes, Spearman against scipy, the bank's share."""
    from scipy import stats

    from sigma_ser.victims.checkpoint import make_head
    from sigma_ser.victims.victim import Standardised

    rng = torch.Generator().manual_seed(0)
    frames, channels, rows = 80, 384, 16
    x = torch.randn(rows, frames, channels, generator=rng)
    lengths = torch.full((rows,), frames)
    labels = torch.arange(rows) % 7
    batch = FeatureBatch(x, lengths, [f"u{row}" for row in range(rows)])
    for head in arguments.heads:
        torch.manual_seed(0)
        module = Standardised(
            make_head(head, channels, 7, {}), torch.zeros(channels), torch.ones(channels)
        )
        victim = ss.wrap(module.eval(), mean=module.mean, scale=module.scale)
        expanded, many = x.repeat(4, 1, 1), lengths.repeat(4)

        def passes(victim=victim, expanded=expanded, many=many) -> None:
            for _ in range(8):
                leaf = expanded.detach().requires_grad_()
                logits = victim(leaf, many)
                torch.autograd.grad(logits.gather(1, labels.repeat(4)[:, None]).sum(), leaf)

        bare = timed(passes, 3)
        explainer = make_explainer("integrated-gradients", steps=32, rows=64)
        ours = timed(lambda victim=victim, e=explainer: e(victim, batch, labels), 3)
        print(
            f"{head}: integrated-gradients, 32 steps, {rows} utterances: {ours:.2f} s; "
            f"32 bare passes in the same chunks {bare:.2f} s; ratio {ours / bare:.2f}"
        )
        read_share(head, victim, batch, labels, arguments.work)
    a, b = torch.rand(16, 80, 384, generator=rng), torch.rand(16, 80, 384, generator=rng)
    ours = timed(lambda: spearman(a, b, lengths), 5)
    theirs = timed(
        lambda: [
            stats.spearmanr(a[row].numpy().ravel(), b[row].numpy().ravel()) for row in range(16)
        ],
        3,
    )
    print(
        f"spearman, 16 x 30720: {ours:.3f} s, scipy in a loop {theirs:.3f} s: {theirs / ours:.1f} x"
    )


def read_share(
    head: str, victim: ss.Victim, batch: FeatureBatch, labels: torch.Tensor, work: Path
) -> None:
    """What a mask out of the bank costs beside an attack of ten steps."""
    budget = ss.Budget(**BUDGET)
    bank = MaskBank(
        work / "bank", make_explainer("gradient"), victim, features="noise", fingerprint=head
    )
    bank.fill(batch, labels)
    mask = bank.mask(batch, labels, budget, 8)
    reading = timed(lambda: bank.mask(batch, labels, budget, 8), 9)
    predicted = victim(batch.x, batch.lengths).argmax(1)
    attack = ss.attack("pgd", steps=10)
    weak = ss.Budget(sparsity=0.08, epsilon=1e-4)  # nobody is fooled, so all ten steps are done
    whole = timed(lambda: attack(victim, batch, predicted, weak, mask=mask), 3)
    print(
        f"{head}: a mask of 16 utterances out of the bank {1e3 * reading:.2f} ms, "
        f"pgd with 10 steps {1e3 * whole:.0f} ms: {reading / whole:.2%}"
    )


def victims(arguments: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    """The features, the fold, and the trained heads; made once."""
    corpus = ss.load_corpus("tess", arguments.root)
    encoder = ss.load_encoder(arguments.encoder, layer=arguments.layer, context="utterance")
    store = ss.extract(corpus, encoder, arguments.work / "tess")
    fold = ss.make_folds(corpus, "tess-word")[0]
    trained = {}
    for head in arguments.heads:
        folder = arguments.work / f"victim-{head}"
        if not folder.exists():
            ss.train(store, fold, head=head, seed=0, epochs=12).save(folder)
        trained[head] = ss.load_victim(folder)
    return store, fold, trained


def table(arguments: argparse.Namespace) -> None:
    """Every explainer on every head."""
    store, fold, trained = victims(arguments)
    result = arguments.work / "table.json"
    lines = json.loads(result.read_text()) if result.exists() else []
    known = {(line["head"], line["explainer"]) for line in lines}
    for head, victim in trained.items():
        batch, labels = correct(store, fold, victim, arguments.utterances)
        todo: list[str | None] = [None, *EXPLAINERS]
        for name in todo:
            if (head, name) in known:
                continue
            line = {"head": head, "explainer": name, "utterances": len(batch)}
            line |= free(victim, batch, labels) if name is None else {}
            if name is not None:
                try:
                    line |= one_explainer(name, victim, batch, labels, arguments.quality)
                except ExplainerError as refusal:
                    line["refused"] = str(refusal)
            lines.append(line)
            result.write_text(json.dumps(lines, indent=1))
            print(json.dumps(line), flush=True)
    print(markdown(lines))


def correct(store: Any, fold: Any, victim: Any, count: int) -> tuple[FeatureBatch, torch.Tensor]:
    """Test utterances that the victim gets right, spread over the classes."""
    ids = list(fold.test)
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
    name: str, victim: Any, batch: FeatureBatch, labels: torch.Tensor, count: int
) -> dict[str, Any]:
    """Quality on the first `count` utterances, cost and success rates on all."""
    explainer = make_explainer(name)
    started = time.process_time()
    told = explanation(explainer, victim, batch, labels)
    seconds = (time.process_time() - started) / len(batch)
    few = torch.arange(min(count, len(batch)))
    part = batch.select(few)
    known = Explanation(
        told.saliency[few, : part.x.shape[1]],
        told.forwards[few],
        told.backwards[few],
        None if told.completeness is None else told.completeness[few],
    )
    measures = quality(
        explainer, victim, part, labels[few], told=known, how=QualitySettings(samples=2)
    )
    line: dict[str, Any] = {
        measure: float(values.double().nanmean())
        for measure, values in measures.items()
        if measure != "completeness"
    }
    if "completeness" in measures:
        line["completeness"] = float(measures["completeness"].abs().max())
    line["seconds"] = seconds
    budget = ss.Budget(**BUDGET)
    for scope in (1, *SCOPES):
        mask = explainer_mask(explainer, told, victim, batch, budget, scope)
        attack = ss.attack("pgd", steps=40) if scope == 1 else native()
        line[f"asr_{scope}"] = rate(attack, victim, batch, labels, mask)
    return line


def native() -> Attack:
    """The free attack, and the one inside the scopes."""
    return ss.attack("dual-averaging", steps=20, all_targets=False)


def free(victim: Any, batch: FeatureBatch, labels: torch.Tensor) -> dict[str, Any]:
    """The attack that picks its own support."""
    return {"asr_free": rate(native(), victim, batch, labels, None)}


def rate(
    attack: Attack, victim: Any, batch: FeatureBatch, labels: torch.Tensor, mask: Any
) -> float:
    """Share of the utterances that are fooled."""
    result = attack(victim, batch, labels, ss.Budget(**BUDGET), mask=mask)
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
    parser.add_argument("--root", type=Path, help="folder of TESS")
    parser.add_argument("--encoder", type=Path, help="folder of the encoder")
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"))
    parser.add_argument("--heads", nargs="+", default=["mlp", "bilstm", "cnn"])
    parser.add_argument("--utterances", type=int, default=48)
    parser.add_argument("--quality", type=int, default=24)
    arguments = parser.parse_args()
    {"speed": speed, "table": table}[arguments.what](arguments)


if __name__ == "__main__":
    main()
