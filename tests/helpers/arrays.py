"""Folders of spectra as the acts look through them."""
from spectra.dataset import Dataset


def synthetic_of(folder):
    """Flux and labels of the synthetic spectra in a folder, after they were checked."""
    data = Dataset(folder)
    data.check_synthetic()
    return data.flux_ph, data.labels_ph


def observed_of(folder):
    """Flux and stars of the observed spectra in a folder, after they were checked; `good` is False of unusable ones."""
    data = Dataset(folder)
    data.check_observed()
    return data.flux_carm, data.stars.assign(good=data.usable)


def provenance_of(folder):
    return Dataset(folder).provenance
