"""Where everything lies in a run folder: the only module that knows these names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sigma_ser.core.files import content_key

# Folders whose entries are named by the steps of a plan.
STEP_FOLDERS = (
    "features", "victims", "gradients", "universal", "floors", "attacks", "replays",
    "certificates", "alarms",
)  # fmt: skip


def exemplar_key(attack: str, utterance: str) -> str:
    """Key of one utterance of a cell, shown in full."""
    return content_key([attack, utterance])


@dataclass(frozen=True)
class RunLayout:
    """Paths inside one run folder; nothing is created.

    Args:
        folder: the run folder.
    """

    folder: Path

    # What determines the run.

    @property
    def study_text(self) -> Path:
        """The study file as it was written, with what it includes and every override."""
        return self.folder / "study.toml"

    @property
    def study(self) -> Path:
        """The study with every default filled in."""
        return self.folder / "study.json"

    @property
    def environment(self) -> Path:
        """Versions and machine of the last call."""
        return self.folder / "environment.json"

    @property
    def provenance(self) -> Path:
        """Cards of corpora and encoders, and the leakage report."""
        return self.folder / "provenance.json"

    @property
    def plan(self) -> Path:
        """Keys of everything that the study needs; garbage collection reads it."""
        return self.folder / "plan.json"

    # Where it stands.

    @property
    def lock(self) -> Path:
        """Held while a run works in the folder."""
        return self.folder / ".lock"

    @property
    def status(self) -> Path:
        """State, stages and progress."""
        return self.folder / "status.json"

    @property
    def failures(self) -> Path:
        """Tasks that could not be computed."""
        return self.folder / "failures.json"

    @property
    def jobs(self) -> Path:
        """Folder of the jobs of a batch system: scripts, logs, and what submitit pickles."""
        return self.folder / "jobs"

    @property
    def submission(self) -> Path:
        """Which jobs were submitted."""
        return self.folder / "jobs.json"

    @property
    def digests(self) -> Path:
        """Folder with the digests of all files, one file for each process that has written."""
        return self.folder / "digests"

    @property
    def digests_joined(self) -> Path:
        """The digests of the processes of earlier calls."""
        return self.digests / "joined.txt"

    @property
    def repairs(self) -> Path:
        """Files that were found damaged and were made again."""
        return self.folder / "repairs.json"

    # Artefacts of the steps.

    def artefacts(self) -> Iterator[Path]:
        """All files that later calls read; shards of features are checked by their own index."""
        for name in (*STEP_FOLDERS, self.mask_banks.name, self.exemplars.name):
            for path in sorted((self.folder / name).rglob("*")):
                shard = self.is_feature(path) and path.parent.name == "shards"
                if path.is_file() and not shard and not path.name.startswith("."):
                    yield path
        for path in (self.rows, self.replays, self.collected, self.repairs):
            if path.is_file():
                yield path

    def is_feature(self, path: Path) -> bool:
        """Whether a file belongs to a feature store of the run."""
        return path.is_relative_to(self.folder / "features")

    def made_with(self, path: Path) -> Path:
        """The file or folder that must be removed so that a run makes a file again."""
        match path.relative_to(self.folder).parts:
            case ("victims", name, *_):
                return self.victim(name)
            case ("features", name, "store.json"):
                # Nothing else says which features these are.
                return self.features(name)
            case ("attacks", _, name) if name.startswith("perturbations-"):
                # While the rows of the part are there, the attack is not run again.
                rows = path.with_name(name.replace("perturbations-", "part-"))
                return rows.with_suffix(".parquet")
        return path

    def features(self, name: str) -> Path:
        """Folder of a feature store."""
        return self.folder / "features" / name

    def victim(self, name: str) -> Path:
        """Folder of a trained victim, or of the scores of a loaded one."""
        return self.folder / "victims" / name

    def victim_timing(self, name: str) -> Path:
        """The file of a victim that is written last."""
        return self.victim(name) / "timing.json"

    def victim_card(self, name: str) -> Path:
        """Description and scores of a victim."""
        return self.victim(name) / "card.json"

    def gradient_check(self, key: str) -> Path:
        """The gradient check of a victim."""
        return self.folder / "gradients" / key / "check.json"

    def universal(self, key: str) -> Path:
        """The universal map of a victim."""
        return self.folder / "universal" / key / "map.safetensors"

    @property
    def mask_banks(self) -> Path:
        """Folder of all mask banks."""
        return self.folder / "saliency"

    @property
    def explained(self) -> Path:
        """Folder that records which parts are in the banks."""
        return self.mask_banks / "done"

    def saliency(self, key: str, part: int) -> Path:
        """Record that the maps of one part are in the bank, with the seconds they took."""
        return self.explained / key / f"part-{part:05d}.json"

    def floor(self, key: str, part: int) -> Path:
        """Consistency floors of one part."""
        return self.folder / "floors" / key / f"part-{part:05d}.safetensors"

    def attack(self, key: str, part: int) -> Path:
        """Rows of one part of a cell."""
        return self.folder / "attacks" / key / f"part-{part:05d}.parquet"

    def perturbations(self, key: str, part: int) -> Path:
        """Perturbations of one part of a cell, where they are replayed on other victims."""
        return self.folder / "attacks" / key / f"perturbations-{part:05d}.safetensors"

    def replay(self, key: str, part: int) -> Path:
        """Predictions of another victim on the perturbations of one part."""
        return self.folder / "replays" / key / f"part-{part:05d}.parquet"

    def certificate(self, key: str, part: int) -> Path:
        """Certificates of one part of the attacked utterances at one budget."""
        return self.folder / "certificates" / key / f"part-{part:05d}.parquet"

    def alarm(self, key: str) -> Path:
        """The fitted alarms of a victim at one budget."""
        return self.folder / "alarms" / key / "alarms.safetensors"

    def alarm_scores(self, key: str, part: int) -> Path:
        """Scores of the alarms for one part of a cell."""
        return self.folder / "alarms" / key / f"part-{part:05d}.parquet"

    @property
    def exemplars(self) -> Path:
        """Folder of the utterances that the page shows in full."""
        return self.folder / "exemplars"

    def exemplar(self, key: str) -> Path:
        """One utterance that the page shows in full."""
        return self.exemplars / f"{key}.safetensors"

    # Results.

    @property
    def rows(self) -> Path:
        """All rows of the run."""
        return self.folder / "rows.parquet"

    @property
    def replays(self) -> Path:
        """All replays of the run; absent without any."""
        return self.folder / "replays.parquet"

    @property
    def certificates(self) -> Path:
        """All certificates of the run; absent without any."""
        return self.folder / "certificates.parquet"

    @property
    def alarms(self) -> Path:
        """Scores of all alarms of the run; absent without any."""
        return self.folder / "alarms.parquet"

    @property
    def collected(self) -> Path:
        """Which parts the rows and replays were joined from."""
        return self.folder / "rows.json"

    @property
    def victims(self) -> Path:
        """Test scores of every victim."""
        return self.folder / "victims.json"

    @property
    def verdict(self) -> Path:
        """The sentence of an audit."""
        return self.folder / "verdict.txt"

    @property
    def criteria(self) -> Path:
        """The criteria of an audit, as they were declared."""
        return self.folder / "criteria.toml"

    @property
    def declaration(self) -> Path:
        """Hash of the declared criteria, and whether they were changed after results existed."""
        return self.folder / "criteria.json"

    @property
    def audit_record(self) -> Path:
        """The record of an audit."""
        return self.folder / "audit.json"

    @property
    def audit_page(self) -> Path:
        """The page of an audit."""
        return self.folder / "report" / "audit.html"

    @property
    def analysis(self) -> Path:
        """Folder of statistical tables."""
        return self.folder / "analysis"

    @property
    def tables(self) -> Path:
        """Folder of the tables of the page."""
        return self.folder / "tables"

    @property
    def figures(self) -> Path:
        """Folder of the figures."""
        return self.folder / "figures"

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.folder / "report" / "index.html"

    def report_files(self) -> Iterator[Path]:
        """The page, and the files of its tables, figures and statistics."""
        for folder in (self.analysis, self.tables, self.figures):
            yield from (path for path in sorted(folder.rglob("*")) if path.is_file())
        yield self.page

    @property
    def page_stamp(self) -> Path:
        """What the page was written from, which tells whether it is current."""
        return self.folder / "report" / "written.json"
