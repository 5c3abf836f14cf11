# make demo | test | test-browser | test-faults | test-gpu | tables | sweeps | trust | results | bench | lab | clean. Each sets up .venv from requirements.lock when it is missing or stale.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.ready
PRESET := demo
SIDE_BY_SIDE := 2
# The project is the root, so that outputs/ opens too; as root, as in containers, Jupyter asks for a flag; uploads up to 100 MB.
SERVER := --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/07_explore.ipynb \
  --ServerApp.tornado_settings='{"websocket_max_message_size": 104857600}' $(if $(filter 0,$(shell id -u)),--allow-root)
LAB :=
SNAKEMAKE :=
RUN := $(BIN)/papermill --no-progress-bar
LOUD := --stdout-file /dev/stdout
OUT := out=$${INSIGHTR_OUTPUTS:-outputs}; [ "$$out" != "~" ] || out=$$HOME; out=$${out/\#\~\//$$HOME/}/notebooks; mkdir -p "$$out";

.PHONY: demo demo-data demo-model demo-backbone demo-baseline demo-insightr test test-browser test-faults test-gpu test-cluster tables sweeps trust results bench lab lint lock clean

# The main job on the embedded data: prepare, pre-train, INSightR-Net beside the baseline, pictures. SIDE_BY_SIDE=1: one by one.
demo: $(STAMP)
	@$(MAKE) --no-print-directory demo-data
	@$(BIN)/python -c "from insightr_nb.demo import announce; announce('$(PRESET)')"
	@$(MAKE) --no-print-directory demo-backbone
	@INSIGHTR_SIDE_BY_SIDE=$(SIDE_BY_SIDE) $(MAKE) --no-print-directory -j $(SIDE_BY_SIDE) demo-insightr demo-baseline demo-model
	$(OUT) $(RUN) notebooks/04_projection.ipynb "$$out/04_projection.ipynb" -p preset $(PRESET) $(LOUD) | cat
	@$(BIN)/python -c "from insightr_nb.demo import report; report('$(PRESET)')"

demo-data: $(STAMP)
	$(OUT) $(RUN) notebooks/01_prepare_data.ipynb "$$out/01_prepare_data.ipynb" -p preset $(PRESET) $(LOUD) | cat

demo-model: $(STAMP)
	$(OUT) $(RUN) notebooks/02_model.ipynb "$$out/02_model.ipynb" -p preset $(PRESET)

# sed, or cat: papermill would truncate a file that stdout is redirected to.
demo-backbone demo-baseline demo-insightr: demo-%: $(STAMP)
	$(OUT) $(RUN) notebooks/03_train.ipynb "$$out/03_train_$*.ipynb" -p preset $(PRESET) -p variant $* $(LOUD) | sed -u 's/^/$*: /'

# One process a core, each with one thread, and no GPU.
test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Notebook 07 in a real JupyterLab and Chromium, with screenshots under outputs/screenshots/.
test-browser: $(STAMP)
	@command -v chromium > /dev/null || command -v chromium-browser > /dev/null || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq chromium > /dev/null; } || \
	  { echo "no Chromium here: install it (Debian: apt-get install chromium) and try again"; exit 1; }
	$(BIN)/python -m pytest -m browser -s tests/browser

# Trainings killed at named and random places, and every write failing once: all go on to the same result.
test-faults: $(STAMP)
	$(BIN)/python -m pytest -m "faults or not faults" -s tests/faults

# Training on the GPU: exact prototypes, the CPU's predictions, the same bits twice and after an interruption. Minutes; without
# a GPU in small on the CPU.
test-gpu: $(STAMP)
	TQDM_DISABLE=1 $(BIN)/python -m pytest -m gpu -s tests/gpu tests/bench

# The profile slurm on a one-node SLURM on loopback; as root on Debian it installs what it needs.
test-cluster: $(STAMP)
	@command -v slurmd > /dev/null || test -x /usr/sbin/slurmd || \
	  { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq slurm-wlm munge > /dev/null; } || \
	  { echo "no SLURM here: install slurm-wlm and munge and try again"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[cluster]'
	$(BIN)/python -m pytest -m cluster tests/cluster

lab: $(STAMP)
	INSIGHTR_OUTPUTS="$$($(BIN)/python -c 'from insightr_nb.files import outputs_root; print(outputs_root().resolve())')" \
	  $(BIN)/jupyter lab $(SERVER) $(LAB)

# Table 1 and the ablations of preset demo: 7 variants and 2 with continuous labels on 5 folds; resumes where it stopped.
tables: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --profile profiles/local $(SNAKEMAKE)

# INSightR-Net with 10 to 100 prototypes, five weights of the cluster loss and its backbone ending at layer1, 2 and 3, on 3
# folds; it, the baseline and the log similarity with two more seeds on 2 folds.
sweeps: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --profile profiles/local sweeps $(SNAKEMAKE)

# Notebook 08 on every fold of INSightR-Net, fold 0 last, with what holds over the folds.
trust: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --profile profiles/local trust $(SNAKEMAKE)

# The records of `make tables`, `make sweeps` and `make trust` into docs/results/, and the tables of README and docs of them.
results: $(STAMP)
	$(BIN)/python docs/render.py --collect

# Measurements as ratios to something run beside them: outputs/bench/bench.md
bench: $(STAMP)
	TQDM_DISABLE=1 $(BIN)/python -m bench

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Resolve the exact versions again after a change of pyproject.toml; for maintainers, needs uv.
lock:
	uv pip compile --universal --python-version 3.11 --extra dev --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --quiet pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis *.egg-info

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) is needed; give another 3.11 with: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -c "import cv2" || { echo "OpenCV lacks system libraries; on Debian or Ubuntu: \
	  apt-get install libgl1 libglib2.0-0"; exit 1; }
	@touch $(STAMP)
