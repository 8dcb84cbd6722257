"""How a run is stored and driven: files, units, locks, flags. Knows no spectrum and no network."""
