"""Which files of models a label needs; reading and fetching them is tested with the command, `phoenix_grid.py`."""
import numpy as np
import pytest

from synthetic import phoenix_models
from synthetic.labels import label_grid
from synthetic.phoenix_models import NODE_STEPS


def test_weights_reproduce_what_is_linear_in_each_parameter():
    def linear(label):
        teff, logg, mh = (np.array(label) - (3000, 5, 0)) / (100, 0.5, 0.5)
        return 1 + 2 * teff - 3 * logg + 0.5 * mh + 0.1 * teff * logg + 0.2 * logg * mh + 0.3 * teff * logg * mh

    for star in np.unique(label_grid()[:, :3], axis=0)[::5]:
        nodes = phoenix_models.nodes_around(star, NODE_STEPS)
        assert sum(weight * linear(node) for node, weight in nodes.items()) == pytest.approx(linear(star), abs=1e-6)
        assert all(0 < weight <= 1 for weight in nodes.values())
        assert all(np.all(np.abs(np.subtract(node, star)) < NODE_STEPS) for node in nodes)


@pytest.mark.parametrize("node, name", [
    ((3000.0, 5.0, -0.0), "Z-0.0/lte03000-5.00-0.0.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"),
    ((2300.0, 4.5, 0.5), "Z+0.5/lte02300-4.50+0.5.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"),
])
def test_a_label_on_a_node_needs_that_file(node, name):
    files = phoenix_models.files_for(np.array([[*node, 1.5], [*node, 5]]), NODE_STEPS, "wave", phoenix_models.NODE_FILE)
    assert files == {"wave": None, f"PHOENIX-ACES-AGSS-COND-2011/{name}": node}


def test_a_file_may_lie_without_the_folders_of_its_name(tmp_path):
    (tmp_path / "model.fits").touch()
    assert phoenix_models.find(tmp_path, "Z-0.0/model.fits") == tmp_path / "model.fits"
    assert phoenix_models.absent(tmp_path, ["Z-0.0/model.fits", "Z-0.0/other.fits"]) == ["Z-0.0/other.fits"]
