# make demo | test | lab | clean. Each sets up .venv from requirements.lock when it is missing or stale.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.ready
PRESET := demo
LAB :=
RUN := $(BIN)/papermill --no-progress-bar
LOUD := --stdout-file /dev/stdout
OUT := $(or $(INSIGHTR_OUTPUTS),outputs)/notebooks

.PHONY: demo test lab lint lock clean

# The main job on the embedded data: prepare, pre-train, baseline, INSightR-Net, log similarity, pictures.
demo: $(STAMP)
	@mkdir -p $(OUT)
	$(RUN) notebooks/01_prepare_data.ipynb $(OUT)/01_prepare_data.ipynb -p preset $(PRESET) $(LOUD) | cat
	@$(BIN)/python -c "from insightr_nb.demo import announce; announce('$(PRESET)')"
	$(RUN) notebooks/02_model.ipynb $(OUT)/02_model.ipynb -p preset $(PRESET)
	for variant in baseline insightr log_similarity; do \
	  $(RUN) notebooks/03_train.ipynb $(OUT)/03_train_$$variant.ipynb -p preset $(PRESET) \
	    -p variant $$variant $(LOUD) | cat || exit 1; done  # cat: papermill would truncate a file that stdout is redirected to
	$(RUN) notebooks/04_projection.ipynb $(OUT)/04_projection.ipynb -p preset $(PRESET) $(LOUD) | cat
	@$(BIN)/python -c "from insightr_nb.demo import report; report('$(PRESET)')"

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

lab: $(STAMP)
	$(BIN)/jupyter lab $(LAB) notebooks

lint: $(STAMP)
	$(BIN)/ruff check --fix .

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
