"""Pack the networks of simulated runs for a release, so that a first estimate needs no training.

Reads   CITATION.cff, the one place of the version
        of each run {artifacts}/final_estimations.json and the networks that it names, {data}/ph_flux_norm.npy,
        ph_pars.npy
Writes  codemeta.json, .zenodo.json                        what archives ask for, from CITATION.cff
        {out}/networks-VERSION.tar.xz, {out}/SHA256SUMS    a folder a run; unpacked, each is good as --artifacts

A folder has what estimate.py needs of a run: the kept regressors, their autoencoders before and after fine-tuning, the
encodings of the synthetic spectra, and of these spectra the templates for velocities and one of every label.
release.json has the digest of every file. Weights are rounded to BITS of their 23 binary digits, which halves the
archive; how far that moves estimates is measured on stars of the run, and printed. Only simulated runs are packed: the
published arrays carry no licence.

    python .ci/release.py                                                 # metadata alone
    python .ci/release.py --run demo artifacts/demo src_files/demo        # repeat --run for more
"""
import argparse
import json
import shutil
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Methodology"))

import paper  # noqa: E402
from inference import predictor  # noqa: E402
from inference.mode import estimate  # noqa: E402
from workflow import schemas  # noqa: E402
from workflow.artifacts import STAGES  # noqa: E402
from workflow.command_line import command, folder  # noqa: E402
from workflow.files import BadInput, load_array, lock, sha256, write_array, write_json, writing  # noqa: E402
from workflow.units import sidecar_of  # noqa: E402

BITS = 12
N_STARS = 50  # of a run, on which the effect of rounding is measured
LARGEST = 60e6  # [bytes] of the archive


# ---------------------------------------------------------------- metadata
def citation():
    """What CITATION.cff says, a dict."""
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def metadata(cited):
    """Contents of codemeta.json and .zenodo.json, a dict of both."""
    article, date = cited["preferred-citation"], str(cited["date-released"])
    names = [author["name"] for author in cited["authors"]]
    doi = f"https://doi.org/{article['doi']}"
    codemeta = {
        "@context": "https://w3id.org/codemeta/3.0", "@type": "SoftwareSourceCode", "name": cited["title"],
        "description": cited["abstract"], "version": cited["version"], "datePublished": date,
        "license": f"https://spdx.org/licenses/{cited['license']}", "programmingLanguage": "Python",
        "keywords": cited["keywords"], "author": [{"@type": "Organization", "name": name} for name in names],
        "referencePublication": {
            "@type": "ScholarlyArticle", "@id": doi, "name": article["title"], "datePublished": str(article["year"]),
            "author": [{"@type": "Person", "familyName": author["family-names"], "givenName": author["given-names"]}
                       for author in article["authors"]]}}
    zenodo = {
        "title": cited["title"], "description": cited["abstract"], "version": cited["version"],
        "publication_date": date, "upload_type": "software", "access_right": "open", "license": cited["license"],
        "keywords": cited["keywords"], "creators": [{"name": name} for name in names],
        "related_identifiers": [{"identifier": article["doi"], "relation": "isSupplementTo", "scheme": "doi"}]}
    return {"codemeta.json": codemeta, ".zenodo.json": zenodo}


# ---------------------------------------------------------------- networks
def rounded(values):
    """Weights with BITS binary digits after the first, nearest, as float32."""
    step = np.uint32(1 << (23 - BITS))
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + step // 2) & ~(step - np.uint32(1))).view(np.float32)


def copy_network(path, out):
    """Copy a network with rounded weights, what else its unit left, and its sidecar, signed for the rounded file."""
    sidecar = schemas.plain(schemas.read(sidecar_of(path), schemas.Sidecar, "run its act again"))
    for name in sidecar["outputs"]:
        shutil.copyfile(path.with_name(name), out / name)
    with h5py.File(out / path.name, "r+") as file:
        file.visititems(_round)
    sidecar["outputs"][path.name] = sha256(out / path.name)
    write_json(sidecar_of(out / path.name), schemas.signed(sidecar))


def _round(name, item):
    if isinstance(item, h5py.Dataset) and item.dtype == np.float32:
        item[...] = rounded(item[...])


def thinned(labels_ph, templates):
    """Rows of a synthetic set: those of its `templates`, labels, and the first of every value of each parameter."""
    rows = [np.flatnonzero((labels_ph == label).all(axis=1))[0] for label in templates]
    return np.unique([*rows, *(row for column in labels_ph.T for row in np.unique(column, return_index=True)[1])])


def pack(name, artifacts, data, out, version):
    """Leave what estimate.py needs of a run in a folder of its name in `out`; how far rounding moves its estimates."""
    ensemble = predictor.select(artifacts, data)
    if not ensemble.trained_on.kind.simulated or not ensemble.fine_tuned_on.kind.simulated:
        raise BadInput(f"{artifacts}: only networks of simulated spectra can be given away, the published arrays carry "
                       "no licence")
    there, run = out / name, ensemble.artifacts
    there.mkdir()
    shutil.copyfile(sidecar_of(run.estimates()), there / sidecar_of(run.estimates()).name)
    networks = [run.autoencoder(i, stage) for i in ensemble.autoencoders for stage in STAGES]
    for path in [*networks, *sum(ensemble.regressors.values(), [])]:
        copy_network(path, there)
    flux_ph, labels_ph = (load_array(data / file, 2, "restore it") for file in ("ph_flux_norm.npy", "ph_pars.npy"))
    rows = thinned(np.asarray(labels_ph), ensemble.templates.labels)
    write_array(there / "ph_flux_norm.npy", np.array(flux_ph[rows]))
    write_array(there / "ph_pars.npy", np.array(labels_ph[rows]))
    provenance = schemas.plain(schemas.read(data / "provenance.json", schemas.Provenance, "restore it"))
    spectra = {file: sha256(there / file) for file in ("ph_flux_norm.npy", "ph_pars.npy")}
    write_json(there / "provenance.json", {**provenance, "files": spectra})
    files = {path.name: sha256(path) for path in sorted(there.iterdir())}
    note = schemas.Release(version=version, bits=BITS, files=files)
    write_json(there / predictor.RELEASE, schemas.plain(note))
    return moved(ensemble, predictor.select(there), data)


def moved(whole, packed, data):
    """Largest change of an estimate by rounding, a parameter, in its unit, over some stars of the run."""
    flux = np.array(load_array(data / "carmf_norm.npy", 2, "restore it")[:N_STARS])
    estimates = []
    for ensemble in (whole, packed):
        loaded = predictor.load(ensemble)
        predictions = loaded.predict(loaded.encode(flux)[0])
        estimates.append({par: estimate(values)[0] for par, values in predictions.items()})
    return {par: float(np.abs(estimates[1][par] - estimates[0][par]).max()) for par in estimates[0]}


def archive(out, version, names):
    """Write the archive of some folders in `out`, the same bytes whenever and by whomever; its path."""
    path = out / f"networks-{version}.tar.xz"
    with writing(path) as partial, tarfile.open(partial, "w:xz", preset=9) as tar:
        for file in sorted(file for name in names for file in (out / name).iterdir()):
            tar.add(file, f"networks-{version}/{file.relative_to(out)}", filter=_anonymous)
    return path


def _anonymous(entry):
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=3, action="append", default=[], metavar=("NAME", "ARTIFACTS", "DATA"),
                        help="a simulated run to pack: its name in the archive, its folder, that of its spectra")
    parser.add_argument("--out", type=folder, default=ROOT / "dist", metavar="DIR",
                        help="folder to write; default: dist")
    args = parser.parse_args(argv)
    cited = citation()
    for name, content in metadata(cited).items():
        with writing(ROOT / name) as partial:
            partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(ROOT / name)
    if not args.run:
        return
    version, names = cited["version"], [name for name, *_ in args.run]
    with lock(args.out):
        for name, artifacts, data in args.run:
            shutil.rmtree(args.out / name, ignore_errors=True)
            changes = pack(name, Path(artifacts), Path(data), args.out, version)
            print(f"{name}: rounding moves an estimate by at most " + ", ".join(
                f"{value:.2g} {paper.PARAMETERS[par].unit} ({par})" for par, value in changes.items()), flush=True)
        path = archive(args.out, version, names)
        with writing(args.out / "SHA256SUMS") as partial:
            partial.write_text(f"{sha256(path)}  {path.name}\n")
    size = path.stat().st_size
    print(f"{path}: {size / 1e6:.1f} MB" + f", more than {LARGEST / 1e6:.0f}: pack fewer networks" * (size > LARGEST))


if __name__ == "__main__":
    sys.exit(main())
