"""Inject faults into the real program and print the table in docs/reliability.md.

    python -m tests.faults                                # about an hour on two cores
    python -m tests.faults --json benchmarks/results/faults/faults.json
    python -m tests.faults --only inputs

The Comet rows train on MovieLens-1M, the others on synthetic ratings. If pip-audit is installed, it
also looks up the packages of requirements.txt in its database of known vulnerabilities.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.files import write_text
from tests.faults import comet, deaths, inputs, kills, models
from tests.faults.fault import Fault

ROOT = Path(__file__).resolve().parents[2]
TEMPORARY = rf"(file://)?{re.escape(tempfile.gettempdir())}/tmp\w+/"  # prefix of temporary files


def audit() -> Iterator[Fault]:
    """Yield a row on packages with known vulnerabilities, if pip-audit is installed and online."""
    if importlib.util.find_spec("pip_audit") is None:
        return
    command = [sys.executable, "-m", "pip_audit", "-r", str(ROOT / "requirements.txt"),
               "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):  # no network
        return
    weak = [package["name"] for package in packages if package.get("vulns")]
    yield Fault("packages with known weaknesses (pip-audit)", len(packages),
                len(packages) - len(weak), 0, ", ".join(weak) or "none")


SOURCES: dict[str, Callable[[], Iterator[Fault]]] = {
    "deaths": deaths.rows,
    "kills": kills.rows,
    "inputs": inputs.rows,
    "models": models.rows,
    "comet": comet.rows,
    "audit": audit,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    arguments = parser.parse_args()
    if arguments.json and not arguments.json.parent.is_dir():
        raise UserError(f"{arguments.json}: the folder {arguments.json.parent} does not exist")
    if "comet" in arguments.only:
        comet.ratings_folder()  # raise now, not after half an hour
    faults = []
    print("| fault | tried | survived | lost | message |\n| --- | --- | --- | --- | --- |")
    for name in arguments.only:
        for fault in SOURCES[name]():
            fault.message = re.sub(TEMPORARY, "", fault.message)
            faults.append(fault)
            print(line(fault), flush=True)
    if arguments.json:
        rows = ",\n".join(json.dumps(asdict(fault), ensure_ascii=False) for fault in faults)
        write_text(arguments.json, f"[\n{rows}\n]\n")


def line(fault: Fault) -> str:
    """Return the fault as a row of a Markdown table."""
    message = fault.message.replace("|", "\\|").replace("\n", " ")
    message = message if len(message) <= 240 else f"{message[:237]}..."
    return f"| {fault.fault} | {fault.tried:,} | {fault.survived:,} | {fault.lost} | {message} |"


if __name__ == "__main__":
    sys.exit(run_program("faults", main))
