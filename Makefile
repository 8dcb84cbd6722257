# make demo    everything from nothing, on simulated spectra, in minutes
# make test    the tests
# make PYTHON=python3.11 ...    with another interpreter (3.9 to 3.13), in an environment of its own
PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
RUN = $(VENV)/bin/python
DEMO = --data src_files/demo --artifacts artifacts/demo --budget demo

demo: $(VENV)/installed
	$(RUN) src_files/simulate_spectra.py --out src_files/demo --n-spectra 3000
	$(RUN) Methodology/autoencoder_grid_search.py $(DEMO)
	$(RUN) Methodology/autoencoder_training.py $(DEMO)
	$(RUN) Methodology/autoencoder_fine_tuning.py $(DEMO)
	$(RUN) Methodology/cnn_training.py $(DEMO)

test: $(VENV)/installed
	$(RUN) -m pytest

$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements.txt
	touch $@

.PHONY: demo test
