"""From latent values to a parameter with an uncertainty and flags."""
