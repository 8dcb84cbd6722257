"""The four acts as the tests start them: at the smoke budget, on tiny arrays."""
import autoencoder_fine_tuning
import autoencoder_grid_search
import autoencoder_training
import cnn_training

ACTS = [autoencoder_grid_search, autoencoder_training, autoencoder_fine_tuning, cnn_training]


def flags(data, folder, *more):
    """Command line of an act."""
    return ["--data", str(data), "--artifacts", str(folder), "--budget", "smoke", *map(str, more)]
