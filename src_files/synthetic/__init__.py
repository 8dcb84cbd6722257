"""Makes folders of synthetic spectra; only the commands of src_files use it."""
