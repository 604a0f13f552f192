"""All benchmarks with one command: each section in a process of its own, one folder of results.

    python benchmarks/bench.py --out OUT [--full] [--features STORE --victims HEADS]
        [--root DATA --protocol NAME] [--sections NAME ...] [--again] [--compare BASE]

The quick form is meant to take about ten minutes of a free core. Without `--features` the victims
are trained on the demo corpus first; with it, STORE is a feature store and HEADS what `heads.py`
filled, and `--root` and `--protocol` are those of its corpus (sections that read recordings need
them).

OUT gets results.parquet and results.json (`section, name, setting, value, low, high, unit, target,
met`, with machine, versions, date and commit), index.html, and in `sections/` what each section
printed. Finished sections stay unless `--again`; a section that fails is named, does not stop the
others, and makes the exit status 1. `--compare` prints ratios to an earlier results.json.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import environment, figure, record, table
from sigma_ser.core.files import whole_file, write_json
from sigma_ser.demo import corpus_path

HERE = Path(__file__).parent
COLUMNS = ("section", "name", "setting", "value", "low", "high", "unit", "target", "met")

# {out} is where a command writes its records; a section has one command a line.
QUICK = {
    "victims": "heads.py --corpus demo --protocol demo-voices --encoder demo --layer -1 "
               "--context '' --features {store} --out {heads} --epochs 8 --heads mlp cnn "
               "--records {out}",
    "overhead": "overhead.py --batches 16 --heads mlp cnn bilstm transformer --rounds 3 "
                "--out {out}",
    "growth": "growth.py --quick --part time --axes N T --heads mlp cnn bilstm transformer "
              "--steps 2 --rounds 2 --out {out}\n"
              "growth.py --quick --part memory --heads mlp bilstm transformer --steps 2 "
              "--processes 1 --out {out}\n"
              "growth.py --quick --part sharing --heads cnn --rounds 2 --out {out}",
    "metrics": "metrics.py --rounds 2 --out {out}",
    "explainers": "explainers.py speed --heads mlp cnn --rounds 2 --work {work} --out {out}",
    "extraction": "extraction.py {corpus} --utterances 100 --rounds 2 --out {out}\n"
                  "extraction.py {corpus} --memory --utterances 100 --out {out}",
    "store": "store.py --utterances 500 --reads 500 --rounds 3 --out {out}",
    "corpus_check": "corpus_check.py {recordings} --repeats 2 --out {out}",
    "strength": "strength.py --out {work}/strength --data {name}={store}:{heads} --utterances 16 "
                "--heads mlp cnn --attacks dual-averaging spgd oneshot random --records {out}",
    "scopes": "scopes.py --out {work}/scopes --data {name}={store}:{heads} --utterances 16 "
              "--heads mlp cnn --maps gradient-margin random --scopes 1 8 --records {out}",
    "training": "training.py {store} {folds} --head mlp --epochs 2 --rounds 2 --out {out}",
    "planner": "scale.py planner --cells 24",
    "report": "report.py --out {out}",
}  # fmt: skip

FULL = QUICK | {
    "victims": QUICK["victims"].replace("--epochs 8 --heads mlp cnn", "--epochs 20"),
    "overhead": "overhead.py --out {out}",
    "growth": "growth.py --out {out}",
    "metrics": "metrics.py --out {out}",
    "explainers": "explainers.py speed --work {work} --out {out}",
    "extraction": "extraction.py {corpus} --out {out}\n"
                  "extraction.py {corpus} --memory --out {out}",
    "store": "store.py --out {out}",
    "corpus_check": "corpus_check.py {recordings} --out {out}",
    "strength": "strength.py --out {work}/strength --data {name}={store}:{heads} --utterances 48 "
                "--heads mlp cnn bilstm transformer --records {out}",
    "scopes": "scopes.py --out {work}/scopes --data {name}={store}:{heads} --utterances 32 "
              "--heads mlp cnn bilstm transformer --records {out}",
    "training": "training.py {store} {folds} --head bilstm --out {out}",
    "planner": "scale.py planner",
}  # fmt: skip


def run(
    sections: Mapping[str, str], folder: Path, *, threads: int = 1, again: bool = False
) -> None:
    """Run what is not yet there; each section leaves `sections/<name>.json`.

    Args:
        sections: by name, one command a line: arguments of the interpreter, with `{out}` for the
            file of records.
    """
    for number, (name, commands) in enumerate(sections.items()):
        done = folder / "sections" / f"{name}.json"
        if done.exists() and not again:
            kept = json.loads(done.read_text("utf-8"))
            if kept["commands"] == commands and kept["failed"] is None:
                continue
        done.parent.mkdir(parents=True, exist_ok=True)
        print(f"{number + 1}/{len(sections)} {name} ...", flush=True)
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        records, failed = _section(name, commands, done, threads)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = {
            "commands": commands,
            "failed": failed,
            "wall_seconds": time.monotonic() - started,
            "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "records": records,
        }
        write_json(done, result)
        print(f"  {failed or 'done'}, {result['wall_seconds']:.0f} s", flush=True)


def _section(
    name: str, commands: str, done: Path, threads: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The records of a section, and why it failed."""
    records: list[dict[str, Any]] = []
    fixed = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    out = done.with_name(f"{name}.records.json")
    with done.with_suffix(".log").open("w+", encoding="utf-8") as log:
        for command in commands.splitlines():
            script, *arguments = shlex.split(command.replace("{out}", shlex.quote(str(out))))
            out.unlink(missing_ok=True)
            log.write(f"$ {shlex.join([script, *arguments])}\n")
            log.flush()
            place = log.tell()
            code = subprocess.run(
                [sys.executable, HERE / script, *arguments],
                stdout=log, stderr=subprocess.STDOUT, check=False, env={**os.environ, **fixed},
            ).returncode  # fmt: skip
            log.seek(place)
            printed = log.read()
            if code:
                last = (printed.strip().splitlines() or [""])[-1]
                return records, f"failed: {script} ended with {code}: {last}"
            if out.exists():
                records += json.loads(out.read_text("utf-8"))
            elif script == "scale.py":
                records += _printed(printed)
            else:
                return records, f"failed: {script} wrote no records"
    out.unlink(missing_ok=True)
    return records, None


def _printed(text: str) -> list[dict[str, Any]]:
    """`scale.py planner` tells people alone: `restart ...: 1.23 s CPU, ...` after a first line."""
    cells, *lines = text.strip().splitlines()
    return [
        record(name, cells.split(":")[0], float(result.split()[0]), "s CPU")
        for name, _, result in (line.partition(": ") for line in lines)
        if " s CPU" in result
    ]


def collect(folder: Path, form: str) -> dict[str, Any]:
    """Write results.json, results.parquet and index.html from all finished sections."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = sorted((folder / "sections").glob("*.json"), key=lambda path: path.stat().st_mtime)
    result = {path.stem: json.loads(path.read_text("utf-8")) for path in kept}
    records = [
        {"section": name, **{column: line[column] for column in COLUMNS[1:]}}
        for name, one in result.items()
        for line in one.pop("records")
    ]
    results = {
        "environment": {**environment(), "form": form},
        "sections": result,
        "records": records,
    }
    write_json(folder / "results.json", results)
    kinds = {"value": pa.float64(), "low": pa.float64(), "high": pa.float64(), "met": pa.bool_()}
    schema = pa.schema([(column, kinds.get(column, pa.string())) for column in COLUMNS])
    with whole_file(folder / "results.parquet") as aside:
        pq.write_table(pa.Table.from_pylist(records, schema), aside)
    with whole_file(folder / "index.html") as aside:
        aside.write_text(page(results), "utf-8")
    return results


def compare(results: dict[str, Any], base: dict[str, Any]) -> str:
    """Ratios of all figures that two results share, in Markdown."""

    def named(result: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
        return {(one["section"], one["name"], one["setting"]): one for one in result["records"]}

    now, then = named(results), named(base)
    shared = [key for key in now if key in then]
    places = [result["environment"] for result in (base, results)]
    lines = [
        " against ".join(f"{one['commit']} of {one['date']}" for one in reversed(places)),
        "", "| section | what | setting | before | now | ratio |", "|---|---|---|--:|--:|--:|",
    ]  # fmt: skip
    if places[0]["machine"] != places[1]["machine"]:
        lines.insert(1, f"Another machine: {places[0]['machine']}, now {places[1]['machine']}.")
    for key in shared:
        old, new = then[key]["value"], now[key]["value"]
        times = f"{new / old:.2f}" if old else ""
        unit = now[key]["unit"]
        lines.append(
            f"| {' | '.join(key)} | {figure(old)} {unit} | {figure(new)} {unit} | {times} |"
        )
    gone = len(then) - len(shared)
    lines.append(f"\n{len(shared)} figures in both, {len(now) - len(shared)} new, {gone} gone.")
    return "\n".join(lines)


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; }
table { border-collapse: collapse; } td, th { padding: .15rem .7rem; text-align: left; }
tr { border-bottom: 1px solid #8884; } td.n { text-align: right; }
.missed { font-weight: bold; color: #b3261e; } :root { color-scheme: light dark; }
"""


def page(results: dict[str, Any]) -> str:
    """Everything on one page that needs no other file."""
    where = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Benchmarks</title>",
        f"<style>{_STYLE}</style><h1>Benchmarks</h1>",
        f"<p>{html.escape(where['form'])} form, {where['date']}, commit "
        f"{html.escape(where['commit'])}; {html.escape(where['machine'])}, "
        f"{where['threads']} thread, Python {where['python']}; {html.escape(versions)}.",
    ]
    for name, result in results["sections"].items():
        parts.append(f"<h2>{html.escape(name)}</h2><p>{result['cpu_seconds']:.0f} s CPU, "
                     f"{result['wall_seconds']:.0f} s wall.")  # fmt: skip
        if result["failed"]:
            parts.append(f"<p class=missed>{html.escape(result['failed'])}")
        parts.append("<table><tr><th>what<th>setting<th>figure<th>spread<th>target<th>")
        for line in results["records"]:
            if line["section"] != name:
                continue
            spread = (
                "" if line["low"] is None else f"{figure(line['low'])} to {figure(line['high'])}"
            )
            said = {None: "", True: "met", False: "missed"}[line["met"]]
            parts.append(
                f"<tr><td>{html.escape(line['name'])}<td>{html.escape(line['setting'])}"
                f"<td class=n>{figure(line['value'])} {html.escape(line['unit'])}"
                f"<td class=n>{spread}<td>{html.escape(line['target'] or '')}"
                f"<td class='{said}'>{said}"
            )
        parts.append("</table>")
    return "\n".join(parts) + "\n"


def planned(options: argparse.Namespace) -> dict[str, str]:
    """The sections that are asked for, with their data filled in."""
    sections = dict(FULL if options.full else QUICK)
    work = options.out / "work"
    data = {
        "work": work, "store": work / "store", "heads": work / "heads", "name": "demo",
        "recordings": f"demo {shlex.quote(str(corpus_path()))}", "corpus": "--corpus demo",
        "folds": "--protocol demo-voices",
    }  # fmt: skip
    if options.features:
        card = json.loads((options.features / "store.json").read_text("utf-8"))
        name = card["corpus"]["name"]
        data |= {"store": options.features, "heads": options.victims, "name": name}
        del sections["victims"]
        if options.root and options.protocol:
            root = shlex.quote(str(options.root))
            data["recordings"] = f"{name} {root}"
            data["folds"] = f"--root {root} --protocol {options.protocol}"
        elif name != "demo":
            print(f"left out: training: give --root and --protocol of {name}")
            del sections["training"]
    unknown = set(options.sections or ()) - set(sections)
    if unknown:
        raise SystemExit(f"no such section here: {', '.join(sorted(unknown))}; "
                         f"there are {', '.join(sections)}")  # fmt: skip
    shown = {key: str(value) for key, value in data.items()}
    return {
        name: commands.format(**shown, out="{out}")
        for name, commands in sections.items()
        if not options.sections or name in options.sections
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--features", type=Path, help="a feature store")
    parser.add_argument("--victims", type=Path, help="the folder that heads.py filled")
    parser.add_argument("--root", help="the recordings of the store's corpus")
    parser.add_argument("--protocol", help="that HEADS were trained by")
    parser.add_argument("--sections", nargs="+", help="these alone; see QUICK in this file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="also what is finished")
    parser.add_argument("--compare", type=Path, metavar="BASE", help="an earlier results.json")
    options = parser.parse_args()
    if bool(options.features) != bool(options.victims):
        parser.error("--features and --victims belong together")
    run(planned(options), options.out, threads=options.threads, again=options.again)
    results = collect(options.out, "full" if options.full else "quick")
    print(table([line for line in results["records"] if line["met"] is not None]))
    failed = {
        name: result["failed"] for name, result in results["sections"].items() if result["failed"]
    }
    for name, reason in failed.items():
        print(f"{name} {reason}; see {options.out / 'sections' / name}.log")
    if options.compare:
        print(compare(results, json.loads(options.compare.read_text("utf-8"))))
    print(options.out / "index.html")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
