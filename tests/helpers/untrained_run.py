"""A run of networks that nobody trained, whole with its sidecars: what estimate.py takes, made in a second."""
import time

import numpy as np

import paper
from inference import flags
from spectra.dataset import Dataset
from training import networks
from workflow import schemas
from workflow.artifacts import FINETUNED, Artifacts
from workflow.files import write_array, write_json
from workflow.units import Unit, finish, sidecar_of

NEURONS = 16, 24  # of two autoencoders
KEPT = 6  # regressors a parameter, of the autoencoders by turns
SMALL = 2, 2, 4  # filters and units of a regressor


def leave(data, folder, neurons=NEURONS, kept=KEPT, cnn=SMALL, encode=True):
    """Leave in a folder what acts 2 to 4 leave of the synthetic spectra in `data`, as estimate.py reads it.

    Without `encode` the encodings of these are random numbers, which take no time.
    """
    data, artifacts, rng = Dataset(data), Artifacts(folder), np.random.default_rng(5)
    for i, width in enumerate(neurons):
        shape = schemas.AutoencoderShape(width, 1e-7, data.flux_ph.shape[1])
        ac = Unit(artifacts.autoencoder(i), {}, (data.ph,), also=(artifacts.encoded_ph(i),), provenance=data.provenance)
        tuned = Unit(artifacts.autoencoder(i, FINETUNED), {}, (ac.path, data.ph, data.carm, data.pars),
                     provenance=data.provenance)
        for unit, seed in ((ac, 10 * i), (tuned, 10 * i + 1)):
            model = networks.build_autoencoder(width, 1e-7, shape.n_pixels, seed)
            networks.save(model, unit.path)
            if unit is ac:
                write_array(ac.also[0], networks.predict(networks.encoder_of(model), data.flux_ph) if encode
                            else rng.random((len(data.flux_ph), paper.N_LATENT), np.float32))
            finish(unit, time.time(), {name: 0.05 for name in flags.limit_metrics().values()}, None, shape)
    members, model = {}, networks.build_cnn(*cnn)
    for par, parameter in paper.PARAMETERS.items():
        middle, names = data.labels_ph[:, parameter.column].mean(), []
        for k in range(kept):
            i = k % len(neurons)
            unit = Unit(artifacts.regressor(par, k, i), {"autoencoder": i}, (artifacts.encoded_ph(i), data.pars),
                        provenance=data.provenance)
            weights = [rng.normal(0, 1 / np.sqrt(len(w)), w.shape) for w in model.get_weights()]
            model.set_weights([*weights[:-1], weights[-1] + middle])
            networks.save(model, unit.path)
            finish(unit, time.time(), {"mse_test": 1.0}, None, schemas.CnnShape(*cnn, paper.N_LATENT))
            names.append(unit.name)
        members[par] = schemas.Kept(names, 1.0, names)
    estimates = schemas.Estimates(data.provenance, 42, members)
    write_json(sidecar_of(artifacts.estimates()), schemas.signed(schemas.plain(estimates)))
