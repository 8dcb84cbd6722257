"""Tables of estimates as act 4 leaves them."""
import pandas as pd

import paper
from evaluation.catalogues import PUBLISHED
from inference import flags
from workflow import files, schemas


def write_run(path, estimates, spectra="simulated", inputs=None, **origin):
    """A final_estimations.csv and its sidecar, of estimates as `catalogues.load_estimates` has them."""
    estimates = estimates.reset_index(drop=True)
    table = pd.DataFrame({"karmn": estimates["karmn"], "ra_gaiadr3": 10.0, "dec_gaiadr3": 20.0})
    table = table.assign(**{heading: estimates[column] for heading, column in PUBLISHED.items()})
    words = estimates[flags.COLUMNS] if "flags" in estimates else flags.of_published(estimates)
    files.write_csv(path, table.join(words))
    kept = {par: schemas.Kept(["a"], 1.0, ["a"]) for par in paper.PARAMETERS}
    sidecar = schemas.Estimates(schemas.Origin(spectra=spectra, **origin), 42, kept, inputs or {},
                                {path.name: files.sha256(path)})
    files.write_json(path.with_suffix(".json"), schemas.signed(schemas.plain(sidecar)))
    return path
