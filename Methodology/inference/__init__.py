"""From latent values, or spectra, to a parameter with an uncertainty and flags."""
