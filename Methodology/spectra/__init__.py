"""Arrays of spectra and their folders: checked, split, shifted, normalised. No telescope files, no TensorFlow."""
