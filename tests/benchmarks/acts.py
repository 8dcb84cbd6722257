"""What benchmarks that run the acts have in common; to import it puts the scripts on the path."""
import contextlib
import io
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Methodology"), str(ROOT / "src_files")]

import paper  # noqa: E402

N_SPECTRA = {"paper": paper.N_SYNTHETIC, "demo": 3000, "smoke": 400}  # synthetic, of each budget


def ended(main, arguments):
    """Call a script in this process, silently; an error ends the run."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = main(arguments)
    if status:
        sys.exit(f"{' '.join(arguments)}: status {status}\n{said.getvalue()}")


def share(source, target, pattern):
    """Give another folder the files of this pattern."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob(pattern):
        if not (target / path.name).exists():
            os.link(path, target / path.name)
