"""Attacks on recordings: success, success after a round trip through a file, and audio quality.

    python benchmarks/waveform.py --work WORK --corpus tess tess-loso2 DATA/tess \\
        [--folds 3] [--encoder demo] [--encoder FOLDER] [--head mlp] [--utterances 24] \\
        [--passes 30] [--queries 200] [--generator-steps 150] [--table] [--out FILE.json]

Trains the head on the first fold of the corpus under each encoder (context `utterance`), chooses
utterances of its test part that are recognised before and after a round trip, and attacks the same
ones with every method and budget: signal-to-noise ratios of 20, 30 and 40 dB over 1, 10 and 100 %
of the samples. Natural corruptions at the same ratios stand beside them. A round trip writes a
16-bit FLAC file, reads it, encodes it alone as extraction does, and classifies it.

With `--generator-steps`, the generator of `staa-net` is trained on 200 training utterances at
30 dB over 10 % of the samples, and attacks at every budget.

Each cell is written to WORK as soon as it is computed, so a run continues where it was stopped.
`--table` only prints what is there. PESQ and STOI need `pip install 'sigma-ser[audio]'`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sigma_ser as ss
from measuring import record, write_records
from sigma_ser.audio.quality import audio_quality
from sigma_ser.audio.reading import read_audio
from sigma_ser.audio.writing import Provenance, write_flac
from sigma_ser.core.files import safe_name, write_json
from sigma_ser.core.seeds import derive_seed
from sigma_ser.explainers.over_time import OverTime
from sigma_ser.statistics.proportion import wilson_interval

SNRS, SHARES = (20, 30, 40), (0.01, 0.1, 1.0)
# The corruptions that have a signal-to-noise ratio, and those that have none.
AT_SNR, WITHOUT = ("white-noise", "speech-shaped-noise", "reverberation", "gain"), (
    "mp3", "opus", "telephone", "resampling",
)  # fmt: skip
BATCH = 6


@dataclass(frozen=True)
class Setting:
    """One corpus under one encoder with one head, and the attacked utterances.

    `round_trip(wave)` gives the class of a wave that was written to a file and read again.
    """

    name: str
    encoder: ss.Encoder
    head: ss.TrainedVictim
    whole: ss.Victim
    corpus: Any
    ids: tuple[str, ...]
    labels: Tensor
    train: tuple[str, ...]

    def round_trip(self, wave: np.ndarray, attack: str) -> int:
        """The class of a wave after it was written as 16 bits, read and extracted."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "wave.flac")
            write_flac(path, wave, Provenance(original="", attack=attack, budget={}))
            (features,) = self.encoder.encode([read_audio(path)])
        # Feature stores keep float16.
        x = torch.as_tensor(np.asarray(features)).half().float()[None]
        with torch.no_grad():
            return int(self.head(x, torch.tensor([x.shape[1]])).argmax())


def setting(given: argparse.Namespace, encoder_name: str) -> Setting:
    """Extract, train, and choose utterances; what is in the work folder is used again."""
    corpus_name, protocol, root = given.corpus
    corpus = ss.load_corpus(corpus_name, root or None)
    context = {} if encoder_name == "demo" else {"context": "utterance"}
    encoder = ss.load_encoder(encoder_name, **context)
    name = safe_name(f"{corpus_name}-{Path(encoder_name).name}-{given.head}")
    store = ss.extract(corpus, encoder, out=given.work / f"{name}-features")
    settings = {"folds": given.folds} if given.folds else {}
    fold, folder = ss.make_folds(corpus, protocol, **settings)[0], given.work / f"{name}-victim"
    if not (folder / "card.json").is_file():
        ss.train(store, fold, head=given.head).save(folder)
    head = ss.load_victim(folder)
    whole = ss.on_waveform(encoder, head)
    classes = {label: index for index, label in enumerate(head.class_names)}
    found = Setting(name, encoder, head, whole, corpus, (), torch.tensor([]), ())
    chosen: list[str] = []
    for one in sorted(fold.test, key=derive_seed):
        waves, label = ss.waveforms(corpus, [one]), classes[corpus[one].label]
        with torch.no_grad():
            right = int(whole(waves.x, waves.lengths).argmax()) == label
        if right and found.round_trip(waves.x[0, :, 0].numpy(), "") == label:
            chosen.append(one)
        if len(chosen) == given.utterances:
            break
    # Batches of similar lengths.
    chosen.sort(key=lambda one: corpus[one].num_samples)
    labels = torch.tensor([classes[corpus[one].label] for one in chosen])
    train = tuple(sorted(fold.train, key=derive_seed)[:200])
    return dataclasses.replace(found, ids=tuple(chosen), labels=labels, train=train)


def methods(given: argparse.Namespace, here: Setting) -> Iterator[tuple[str, ss.Attack, bool]]:
    """Name, attack, and whether it runs at every signal-to-noise ratio or at 30 dB only."""
    passes, queries = given.passes, given.queries
    averaging = ss.make_attack("dual-averaging", steps=passes // 2, rounds=2)
    yield "random", ss.make_attack("random"), True
    yield "dual-averaging", averaging, True
    yield "pgd", ss.make_attack("pgd", steps=passes, keep_largest=True), True
    for source, explainer in (
        ("waveform", ss.make_explainer("gradient")), ("features", OverTime("gradient"))
    ):  # fmt: skip
        for scope in (1, 8):
            yield f"SIGMA {source} x{scope}", ss.Sigma(explainer, averaging, scope=scope), True
    yield "sparse-rs", ss.make_attack("sparse-rs", queries=queries), False
    generations = max(1, queries // 40 - 1)
    yield "onepixel", ss.make_attack("onepixel", candidates=40, generations=generations), False
    yield "sparsefool", ss.make_attack("sparsefool", steps=4, deepfool_steps=3), False
    if given.generator_steps:
        yield "staa-net", ss.make_attack("staa-net", generator=trained(given, here)), True


def trained(given: argparse.Namespace, here: Setting) -> Path:
    """The folder of the generator, trained where it is not there."""
    folder: Path = given.work / f"{here.name}-generator"
    if here.train:  # a finished training is read
        waves = ss.waveforms(here.corpus, here.train)
        classes = {label: index for index, label in enumerate(here.head.class_names)}
        labels = torch.tensor([classes[here.corpus[one].label] for one in here.train])
        ss.attacks.train_generator(
            here.whole, waves, labels, ss.Budget.from_snr(waves, snr=30, sparsity=0.1),
            steps=given.generator_steps, checkpoint=folder,
        )  # fmt: skip
    return folder


def attacked(
    here: Setting, attack: ss.Attack, snr: float, share: float
) -> Iterator[tuple[ss.FeatureBatch, Tensor, Mapping[str, Any]]]:
    """Perturbed waves of all utterances, in batches, with the columns of the attack."""
    for start in range(0, len(here.ids), BATCH):
        ids, labels = here.ids[start : start + BATCH], here.labels[start : start + BATCH]
        waves = ss.waveforms(here.corpus, ids)
        budget = ss.Budget.from_snr(waves, snr=snr, sparsity=share)
        found = ss.attack(attack, here.whole, waves, labels, budget)
        yield waves, found.x_adv, {
            "success": found.success.tolist(),
            "forwards": found.forwards.tolist(),
            "backwards": found.backwards.tolist(),
        }  # fmt: skip


def corrupted(
    here: Setting, name: str, settings: Mapping[str, Any]
) -> Iterator[tuple[ss.FeatureBatch, Tensor, Mapping[str, Any]]]:
    """The same for a natural corruption."""
    corruption = ss.registry.make("corruption", name, settings)
    for start in range(0, len(here.ids), BATCH):
        waves = ss.waveforms(here.corpus, here.ids[start : start + BATCH])
        changed = corruption(waves)
        with torch.no_grad():
            predicted = here.whole(changed.clamp(-1, 1), waves.lengths).argmax(1)
        wrong = predicted != here.labels[start : start + BATCH]
        yield waves, changed, {"success": wrong.tolist()}


def measured(here: Setting, name: str, parts: Any) -> dict[str, list[Any]]:
    """The columns of a cell: quality and round trip beside those of the attack."""
    columns: dict[str, list[Any]] = {}
    for waves, x_adv, more in parts:
        quality = audio_quality(waves, x_adv)
        found = {**more, **{
            key: getattr(quality, key).tolist()
            for key in ("snr", "snr_segmental", "pesq", "stoi", "estoi")
        }}  # fmt: skip
        start = len(columns.get("success", []))
        found["round_trip"] = [
            here.round_trip(x_adv[row, :size, 0].numpy(), name) != int(here.labels[start + row])
            for row, size in enumerate(waves.lengths.tolist())
        ]
        for key, values in found.items():
            columns.setdefault(key, []).extend(values)
    return columns


def cells(given: argparse.Namespace, here: Setting) -> Iterator[tuple[str, float | None, float]]:
    """Compute the missing cells, and give name, ratio and share of each."""
    plan: list[tuple[str, float | None, float, Any]] = []
    for name, attack, everywhere in methods(given, here):
        for snr in given.snr if everywhere else {30} & set(given.snr):
            for share in SHARES:
                if share == 1.0 and name.startswith("SIGMA"):
                    continue  # the mask would be everything
                plan.append((name, snr, share, (attacked, attack, snr, share)))
    for name in AT_SNR:
        plan += [(name, snr, 1.0, (corrupted, name, {"snr": float(snr)})) for snr in given.snr]
    plan += [(name, None, 1.0, (corrupted, name, {})) for name in WITHOUT]
    # Those at 30 dB first, since they are compared with everything.
    plan.sort(key=lambda one: one[1] != 30)
    for name, snr, share, (run, *arguments) in plan:
        path = given.work / here.name / f"{safe_name(name)}-{snr}-{share:g}.json"
        if not path.exists() and not given.table:
            started = time.process_time()
            columns = measured(here, name, run(here, *arguments))
            seconds = time.process_time() - started
            path.parent.mkdir(exist_ok=True)
            about = {"name": name, "budget_snr": snr, "share": share, "cpu_seconds": seconds}
            write_json(path, {**about, "ids": list(here.ids), **columns})
            print(line(json.loads(path.read_text())), flush=True)
        if path.exists():
            yield name, snr, share


def line(cell: Mapping[str, Any]) -> str:
    """One cell as a row of a Markdown table."""
    total = len(cell["success"])
    trip = sum(cell["round_trip"])
    low, high = wilson_interval(trip, total)
    snr, pesq, stoi = (
        "" if np.all(np.isnan(np.array(cell[key], float)))
        else f"{np.nanmedian(np.array(cell[key], float)):.{digits}f}"
        for key, digits in (("snr", 1), ("pesq", 2), ("stoi", 3))
    )  # fmt: skip
    budget = "" if cell["budget_snr"] is None else f"{cell['budget_snr']} dB"
    cost = max((sum(one) for one in zip(cell.get("forwards", [0]), cell.get("backwards", [0]),
                                        strict=True)), default=0)  # fmt: skip
    return (
        f"| {cell['name']} | {budget} | {cell['share']:.0%} | {sum(cell['success']) / total:.0%} | "
        f"{trip / total:.0%} ({low:.0%} to {high:.0%}) | {snr} | {pesq} | {stoi} | {cost} |"
    )


def main() -> None:
    """Attack, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="features, heads, cells; reused")
    parser.add_argument("--corpus", nargs=3, metavar=("NAME", "PROTOCOL", "ROOT"),
                        default=("demo", "demo-voices", ""))  # fmt: skip
    parser.add_argument("--folds", type=int, help="of the protocol, where it draws them")
    parser.add_argument("--encoder", action="append", default=[])
    parser.add_argument("--head", default="mlp")
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--passes", type=int, default=30, help="gradient passes of an attack")
    parser.add_argument("--queries", type=int, default=200, help="of an attack without gradients")
    parser.add_argument("--snr", type=int, nargs="+", default=SNRS, help="only these, in dB")
    parser.add_argument("--generator-steps", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what is there, and end")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)

    lines = []
    for encoder in given.encoder or ["demo"]:
        here = setting(given, encoder)
        print(f"\n{here.name}: {len(here.ids)} utterances of {len(set(here.labels.tolist()))} "
              "classes\n\n| method | at least | samples | success | after round trip | SNR, dB | "
              "PESQ | STOI | passes |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
        for name, snr, share in cells(given, here):
            path = given.work / here.name / f"{safe_name(name)}-{snr}-{share:g}.json"
            cell = json.loads(path.read_text())
            if given.table:
                print(line(cell))
            rate = sum(cell["round_trip"]) / len(cell["round_trip"])
            lines.append(record("round_trip_success", f"{here.name}: {line(cell)}", rate, ""))
    write_records(given.out, lines)


if __name__ == "__main__":
    main()
