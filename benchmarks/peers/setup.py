"""An environment of the benchmark's own, with torchattacks, foolbox, adv-lib and ART beside us.

    python benchmarks/peers/setup.py /tmp/peers-venv
    /tmp/peers-venv/bin/python benchmarks/strength.py ...

Run it with the interpreter that sigma-ser is installed for. The new environment sees that one's
packages, so that nothing is installed twice, and adds the peers without their dependencies:
torchattacks would pull a torchvision that breaks transformers, and adv-lib a visdom that does not
build. What adv-lib imports of these and no attack uses gets a stand-in (`from_adv_lib.py`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PEERS = (
    "torchattacks==3.5.1",
    "foolbox==3.3.4",
    "eagerpy==0.30.0",
    "GitPython==3.1.44",
    "gitdb==4.0.12",
    "smmap==5.0.2",
    "adv-lib==0.2.8",
    "adversarial-robustness-toolbox==1.20.1",
    "six==1.17.0",
)
CHECK = """
import sigma_ser, torch, transformers
from sigma_ser.attacks.external.libraries import external_attack
for name in ("torchattacks:PGD", "foolbox:LinfPGD", "adv-lib:sigma_zero", "art:FastGradientMethod"):
    print(external_attack(name))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    venv.EnvBuilder(with_pip=False).create(folder)
    python = folder / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(
        subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True)
        .stdout.strip()
    )  # fmt: skip
    # addsitedir, unlike a bare path, also reads the .pth of an editable install.
    ours = sysconfig.get_path("purelib")
    (packages / "beside.pth").write_text(f"import site; site.addsitedir({ours!r})\n", "utf-8")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--upgrade", "--target"]
    subprocess.run([*install, str(packages), *PEERS], check=True)
    subprocess.run([python, "-W", "ignore", "-c", CHECK], check=True)
    print(f"ready: {python}")


if __name__ == "__main__":
    main()
