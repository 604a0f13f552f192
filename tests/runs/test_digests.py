"""The digests of a run folder: every change of a file is found, whoever wrote the file."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from sigma_ser.core.errors import DamagedError, DamagedRunError
from sigma_ser.core.files import write_json, write_text
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.repairs import note_repairs, read_repairs, repair


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path / "run")


def test_every_changed_bit_is_found_and_an_intact_file_is_read_once(layout: RunLayout) -> None:
    path, rng = layout.floor("k", 0), random.Random(1)
    Digests(layout).check(path)  # a missing file is the concern of its reader
    write_text(path, "some values", Digests(layout).seal)
    whole = path.read_bytes()
    reader = Digests(layout)
    reader.check(path)
    for _ in range(20):
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(DamagedRunError, match=r"part-00000\.safetensors is damaged") as raised:
            Digests(layout).check(path)
        assert raised.value.path == path
        reader.check(path)


def test_what_another_process_writes_is_known_without_being_told(layout: RunLayout) -> None:
    reader, path = Digests(layout), layout.universal("k")
    write_text(path, "first", Digests(layout).seal)
    reader.check(path)
    # Written again by a second attempt, which an open reader has not seen.
    late = Digests(layout)
    write_text(path, "second", Digests(layout).seal)
    late.check(path)
    assert len(late.of(path)) == 2


def test_the_digests_are_those_of_b2sum(layout: RunLayout) -> None:
    write_text(layout.floor("k", 0), "values", Digests(layout).seal)
    (journal,) = layout.digests.iterdir()
    done = subprocess.run(
        ["b2sum", "-l", "128", "-c", str(journal)], cwd=layout.folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "floors/k/part-00000.safetensors: OK\n", done.stderr


def test_the_digests_of_all_processes_are_joined_to_those_of_the_present(
    layout: RunLayout,
) -> None:
    for text in ("first", "second"):
        write_text(layout.rows, text, Digests(layout).seal)
        write_text(layout.floor(text, 0), text, Digests(layout).seal)
    layout.floor("first", 0).unlink()
    Digests(layout).join()
    (joined,) = layout.digests.iterdir()
    names = [line.split("  ")[1] for line in joined.read_text("utf-8").splitlines()]
    assert sorted(names) == ["floors/second/part-00000.safetensors", "rows.parquet"]
    Digests(layout).check(layout.rows)


def test_damage_of_the_digests_makes_no_file_right(layout: RunLayout) -> None:
    path = layout.floor("k", 0)
    write_text(path, "values", Digests(layout).seal)
    (journal,) = layout.digests.iterdir()
    whole, rng = journal.read_bytes(), random.Random(2)
    path.write_text("Values")
    for _ in range(40):
        changed = bytearray(whole)
        # Not in the name: the digest of another file says nothing about this one.
        changed[rng.randrange(32)] ^= 1 << rng.randrange(8)
        journal.write_bytes(changed)
        digests = Digests(layout)
        if digests.of(path):
            with pytest.raises(DamagedRunError):
                digests.check(path)


def test_files_of_earlier_versions_are_recorded_and_counted(layout: RunLayout) -> None:
    for number in range(3):
        write_text(layout.attack("k", number), f"rows {number}")
    write_json(layout.study, {})
    digests = Digests(layout)
    digests.check(layout.attack("k", 0))
    assert digests.complete() == 3
    assert [path.name for path in layout.digests.iterdir()] == [layout.digests_joined.name]
    assert Digests(layout).complete() == 0
    layout.attack("k", 1).write_text("other")
    assert list(Digests(layout).changed()) == [layout.attack("k", 1)]


def test_a_repair_removes_all_that_is_damaged_and_counts_it(layout: RunLayout) -> None:
    paths = [layout.attack("k", 0), layout.floor("k", 0), layout.perturbations("k", 1),
             layout.victim_card("v"), layout.replay("k", 0)]  # fmt: skip
    others = [layout.attack("k", 1), layout.victim_timing("v")]
    for path in (*paths, *others):
        write_text(path, path.name, Digests(layout).seal)
    for path in paths[:-1]:
        path.write_text("changed")
    digests = Digests(layout)
    names = repair(layout, digests, DamagedRunError("the first that was read", paths[0]))
    assert names == [one["file"] for one in read_repairs(layout)]
    assert names == sorted(path.relative_to(layout.folder).as_posix() for path in paths[:-1])
    # With the perturbations go the rows of their part, and with the card all of the victim.
    gone = [paths[0], paths[1], others[0], layout.victim("v")]
    assert not any(path.exists() for path in gone)
    assert paths[-1].exists()


def test_a_damaged_list_of_repairs_begins_again(layout: RunLayout) -> None:
    digests = Digests(layout)
    note_repairs(layout, digests, [layout.rows])
    layout.repairs.write_text("[null]")
    with pytest.raises(DamagedError, match=r"repairs\.json is not a list .* delete it"):
        read_repairs(layout)
    assert note_repairs(layout, digests, [layout.replays]) == ["replays.parquet"]
    assert [one["file"] for one in read_repairs(layout)] == ["replays.parquet"]


def test_damage_elsewhere_is_not_repaired(layout: RunLayout, tmp_path: Path) -> None:
    fault = DamagedRunError("a store that the study names", tmp_path / "store" / "store.json")
    with pytest.raises(DamagedRunError, match="a store that the study names"):
        repair(layout, Digests(layout), fault)
