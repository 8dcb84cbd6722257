# make demo    everything from nothing, on simulated spectra, in minutes
# make test    the fast tests, in two minutes; all of them, as .ci/run: SLOW=1
# make figures    the comparison table and all figures, of the published estimates, or of ESTIMATES=artifacts/final_estimations.csv;
#                 of a run, with those of Section 3, with ARTIFACTS=artifacts DATA=src_files
# make report  one page on a run, ARTIFACTS=artifacts DATA=src_files, and before it its figures
# make docs    the figures of README and docs/, from docs/data/
# make release networks of the demo and of a run at full size as one archive in dist/, and the metadata of archives; FULL= and FULL_DATA= name
#              the run at full size, which is made if it is not there: 70 minutes on two busy cores
# make lint    ruff on the code and the notebooks
# make bench   our way of training beside the plain one, half an hour on idle cores; OTHER_LANE=.venv-python3.11/bin/python for both lanes
# make PYTHON=python3.11 ...    with another interpreter (3.9 to 3.13), in an environment of its own
PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(lastword $(notdir $(PYTHON))))
RUN = $(VENV)/bin/python
VERSION = $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
SUPPORTED = 3.9 3.10 3.11 3.12 3.13
DEMO = --data src_files/demo --artifacts artifacts/demo --budget demo
FULL ?= artifacts/full
FULL_DATA ?= src_files/simulated
AT_FULL_SIZE = --data "$(FULL_DATA)" --artifacts "$(FULL)"
# Of a run its own, else the published estimates
ESTIMATES ?= $(if $(ARTIFACTS),$(ARTIFACTS)/final_estimations.csv)
FIGURES ?= $(or $(ARTIFACTS),artifacts)/figures
UNFINISHED = $(if $(ARTIFACTS),[ ! -e "$(ESTIMATES)" ],false)
EXECUTE = ESTIMATES="$(ESTIMATES)" FIGURES="$(FIGURES)" ARTIFACTS="$(ARTIFACTS)" DATA="$(DATA)" \
	$(RUN) -m nbconvert --to notebook --execute --log-level WARN --output-dir "$(FIGURES)"

demo: $(VENV)/installed
	$(RUN) src_files/simulate_spectra.py --out src_files/demo --n-spectra 3000
	$(RUN) Methodology/autoencoder_grid_search.py $(DEMO)
	$(RUN) Methodology/autoencoder_training.py $(DEMO)
	$(RUN) Methodology/autoencoder_fine_tuning.py $(DEMO)
	$(RUN) Methodology/cnn_training.py $(DEMO)
	$(RUN) Methodology/joint_fit.py $(DEMO)
	@echo "All of it lies in artifacts/demo, the SIMULATED spectra in src_files/demo. One page on it, with all figures:"
	@echo "    make report ARTIFACTS=artifacts/demo DATA=src_files/demo"

figures: $(VENV)/installed
	$(UNFINISHED) || $(RUN) Methodology/literature.py $(if $(ESTIMATES),"$(ESTIMATES)")
	$(UNFINISHED) || $(EXECUTE) Section4_1_figs.ipynb Section4_2_figs.ipynb
	$(if $(ARTIFACTS),$(EXECUTE) Section3_figs.ipynb)

report: ARTIFACTS := $(or $(ARTIFACTS),artifacts)
report: DATA := $(or $(DATA),src_files)
report: figures
	$(UNFINISHED) || $(RUN) Methodology/gap_report.py --artifacts="$(ARTIFACTS)" --data="$(DATA)" \
		|| echo "the report goes without the numbers of the gap"
	$(RUN) Methodology/report.py --artifacts="$(ARTIFACTS)" --data="$(DATA)" --figures="$(FIGURES)"

docs: $(VENV)/installed
	$(RUN) docs/figures.py

test: $(VENV)/cluster
	$(RUN) -m pytest $(if $(SLOW),,-m "not slow")

lint: $(VENV)/installed
	$(RUN) -m ruff check

release: $(VENV)/installed
	[ -e artifacts/demo/final_estimations.csv ] || $(MAKE) demo
	[ -e "$(FULL)/final_estimations.csv" ] || { \
		$(RUN) src_files/simulate_spectra.py --out "$(FULL_DATA)" && \
		$(RUN) Methodology/autoencoder_grid_search.py $(AT_FULL_SIZE) --search halving --neurons-in 1024 \
			--reg-par 8e-8 9e-8 1.1e-7 1.2e-7 && \
		$(RUN) Methodology/autoencoder_training.py $(AT_FULL_SIZE) --only 0 && \
		$(RUN) Methodology/autoencoder_fine_tuning.py $(AT_FULL_SIZE) --only 0 && \
		$(RUN) Methodology/cnn_training.py $(AT_FULL_SIZE) --only 0; }
	$(RUN) .ci/release.py --run demo artifacts/demo src_files/demo --run full "$(FULL)" "$(FULL_DATA)"

bench: $(VENV)/installed
	$(RUN) src_files/simulate_spectra.py
	$(RUN) tests/benchmarks/bench.py $(if $(OTHER_LANE),"$(OTHER_LANE)")

$(VENV)/installed: requirements.txt
	$(if $(filter $(VERSION),$(SUPPORTED)),,$(error $(PYTHON) is $(if $(VERSION),Python $(VERSION),no Python that runs): \
		use one from $(firstword $(SUPPORTED)) to $(lastword $(SUPPORTED)), as in make PYTHON=python3.11))
	"$(PYTHON)" -m venv $(VENV)
	$(RUN) -m pip install -q --upgrade pip
	$(RUN) -m pip install -q -r requirements.txt
	touch $@

$(VENV)/cluster: requirements-cluster.txt $(VENV)/installed
	$(RUN) -m pip install -q -r requirements-cluster.txt
	touch $@

.PHONY: bench demo docs figures lint release report test
