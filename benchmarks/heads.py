"""The victims of the other benchmarks: features of a corpus, and one trained head of each kind.

    python benchmarks/heads.py --corpus tess --root DATA/tess --protocol tess-loso2 \\
        --encoder WHISPER --features STORE --out HEADS [--heads mlp cnn bilstm transformer]

STORE is made where it is missing (layer 3, context `utterance`), otherwise read. Each head is
trained on the first fold of the protocol and saved in HEADS/<head>; one that is there stays.
HEADS/unseen.json names the utterances that no head was trained on, those of the test part first.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import sigma_ser as ss
from measuring import record, write_records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--protocol", required=True)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--context", default="utterance", help="of Whisper; '' for other encoders")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--heads", nargs="+", default=["mlp", "cnn", "bilstm", "transformer"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--records", type=Path, help="the UAR of each head, JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = ss.load_corpus(options.corpus, options.root)
    if (options.features / "store.json").is_file():
        store = ss.FeatureStore(options.features)
    else:
        encoder = ss.load_encoder(
            options.encoder, layer=options.layer, context=options.context or None
        )
        store = ss.extract(corpus, encoder, options.features)
    fold = ss.make_folds(corpus, options.protocol)[0]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "unseen.json").write_text(json.dumps([*fold.test, *fold.validation]), "utf-8")
    print(f"{store}: fold {fold.name}, {len(fold.train)} train, {len(fold.test)} test", flush=True)
    found = []
    for head in options.heads:
        folder = options.out / head
        if (folder / "card.json").is_file():
            victim = ss.load_victim(folder)
        else:
            started = time.perf_counter()
            victim = ss.train(store, fold, head=head, epochs=options.epochs, patience=4)
            victim.save(folder)
            print(f"{head}: trained in {time.perf_counter() - started:.0f} s", flush=True)
        uar = victim.card.metrics["test"]["uar"]
        print(f"{head}: test UAR {uar:.2f}", flush=True)
        found.append(record("test UAR", f"{corpus.name}, {head}", uar, ""))
    write_records(options.records, found)


if __name__ == "__main__":
    main()
