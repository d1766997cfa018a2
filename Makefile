# make demo | check | test | test-slow | weights: each sets itself up in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo check test test-slow weights clean
.DELETE_ON_ERROR:

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "fasthebb needs Python 3.10 or newer; name one with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "No venv module: apt-get install python3-venv, then make again"; exit 1; }

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[plots]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt --no-deps torchvision timm lightly
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run
	$(BIN)/fasthebb study --recipe digits --out runs/digits --resume

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/sphinx-build -q -E -W --keep-going docs build/docs

test: $(VENV)/.dev
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# The weights of docs/few-labels.md, in runs/weights, from images in DATA_DIR or where they are usually found.
weights: $(VENV)/.run
	for name in cifar10 fashion_mnist; do \
		test -e runs/weights/$$name/model.safetensors && continue; \
		$(BIN)/fasthebb study --recipe few_labels_$$name --methods softhebb --seeds 0 $(if $(DATA_DIR),--data-dir $(DATA_DIR)) --out runs/weights/$$name-study --resume && \
		$(BIN)/fasthebb export --half --run runs/weights/$$name-study/cells/pretrain-softhebb-s0 --out runs/weights/$$name || exit 1; \
	done

clean:
	rm -rf $(VENV) runs build .pytest_cache .mypy_cache .ruff_cache .hypothesis
