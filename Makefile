# People and CI call the same targets. Each builds .venv first where it is missing.
PYTHON ?= python3
BIN := .venv/bin
# editable installs warn of a case that is not ours
PIP := PYTHONWARNINGS=ignore::UserWarning $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock
# one thread is faster than two for small batches in paddle; make OMP_NUM_THREADS=4 … to change it
export OMP_NUM_THREADS ?= 1

.PHONY: help demo demo-model sample-model serve test test-slow deploy-check spark-check coverage lint docs bench faults fuzz milvus openapi chart dist lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/installed: setup.cfg pyproject.toml requirements.lock
	@echo "installing into .venv (first time: one to three minutes) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) -e '.[train]'
	@touch $@

.venv/installed-serve: .venv/installed
	@$(PIP) -e '.[serve]'
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "installing what the tests, linters and benchmarks need …"
	@$(PIP) -e '.[export,server,serve,redis,bench,dev]'
	@touch $@

demo: .venv/installed  ## real books: click log -> trained model and ranker -> Milvus Lite -> tables, two readers, a picture
	@$(BIN)/python -u -m paddlerec_milvus.demo

# the demo's model, trained first if need be; SERVING_YAML and SERVING_DATA name another
ifeq ($(SERVING_YAML)$(SERVING_DATA),)
serve: export SERVING_YAML := mind_unseen/config_demo.yaml
serve: export SERVING_DATA := demo/books
serve: .venv/installed-serve demo-model
else
serve: .venv/installed-serve
endif
serve:  ## candidates over HTTP, and a page, on Milvus Lite, until Ctrl-C
	@$(BIN)/python -m paddlerec_milvus.serving

demo-model: .venv/installed
	@test -e models/recall/mind_unseen/output_model_mind_unseen_demo/best/rec.pdparams \
	  || $(MAKE) --no-print-directory demo

sample-model: .venv/installed  ## MIND on a small planted log: of the tutorials, sweeps and faults
	@$(BIN)/python datasets/amazonbook/prepare.py --sample --out datasets/sample
	@test -e models/recall/mind/output_model_mind/3/rec.pdparams \
	  || $(BIN)/python -u tools/trainer.py -m mind/config.yaml

# two processes, a file's tests in one of them
PYTEST := $(BIN)/python -m pytest -rs -n 3 --dist loadfile

test: .venv/installed-dev  ## what can be asserted quickly, on exact search, Milvus Lite and a real server
	@$(PYTEST) -m "not slow and not deploy"

test-slow: export FUZZ_EXAMPLES ?= 400
test-slow: .venv/installed-dev  ## kills, cold programs, several processes, the browser, long fuzzing
	@$(PYTEST) -m "slow and not deploy"
	@$(PYTEST) $(addprefix tests/serving/in_process/test_,arbitrary_requests.py requests.py)

# some 500 MB; Java 17 or later has to be there
spark-check: .venv/installed-dev  ## prepare.py by Spark: the folder of one machine, byte for byte, executors killed
	@$(PIP) -e '.[spark]'
	@$(BIN)/python -m pytest -rs -n 0 tests/spark tests/batch/test_spark_lists.py

# no container daemon, no registry of images; Debian's packages are installed where it runs as root
deploy-check: .venv/installed-dev  ## image, compose file, chart, alerts and dashboard, each by its own tool
	@$(PIP) -e '.[deploy]'
	@.ci/deploy_tools
	@PATH="$(CURDIR)/build/deploy-tools:$$PATH" $(BIN)/python -m pytest -rs tests/deploy

coverage: .venv/installed-dev  ## both, with the lines that they run
	@$(PYTEST) --cov --cov-report=term-missing:skip-covered

lint: .venv/installed-dev  ## ruff, mypy strict, import rules, rules of the house, bandit, pip-audit
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python .ci/house.py
	@$(BIN)/bandit -q -c pyproject.toml -r paddlerec_milvus models tools serving datasets benchmarks .ci
	@$(BIN)/python .ci/audit.py

# NO_MKDOCS_2_WARNING: an advertisement of the theme's, no warning about these pages
docs: .venv/installed-serve  ## the documentation as a site in build/site, both languages
	@$(PIP) -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "look at it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site"

# output_bench/ keeps the runs; each is compared with the one before
bench: .venv/installed-dev  ## speed of every part; beside PaddleRec's: make bench PADDLEREC=/path/to/PaddleRec
	@$(PIP) -e '.[hnswlib]' || echo "hnswlib cannot be compiled here, and is left out"
	@$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-storage=output_bench/suites \
	  --benchmark-autosave $(if $(wildcard output_bench/suites/*/*.json),--benchmark-compare)
ifdef PADDLEREC
	@$(PIP) -e '.[torch]'
	@$(BIN)/python benchmarks/training_speed.py --paddlerec $(PADDLEREC)
	@$(BIN)/python benchmarks/evaluation_speed.py --paddlerec $(PADDLEREC)
else
	@echo "Training and evaluation beside PaddleRec's: make bench PADDLEREC=/path/to/PaddleRec"
endif

# on the sample's MIND, which is trained first if need be
faults: .venv/installed-dev sample-model  ## kills, stops, full disks, a cut network: is a write lost, a list mixed? (40 minutes)
	@$(BIN)/python benchmarks/history_faults.py -m mind/config.yaml --out output_bench/history_faults
	@$(BIN)/python benchmarks/service_faults.py --out output_bench/service_faults

# prints requests by status, and the service's memory before and after
fuzz: export FUZZ_EXAMPLES ?= 10000
fuzz: .venv/installed-dev  ## at least 10,000 requests that nobody would write: no 5xx, flat memory
	@$(PYTEST) -n 0 tests/serving/test_fuzz.py

milvus: .venv/installed  ## a real Milvus server on this machine, until Ctrl-C
	@$(PIP) -e '.[server]'
	@$(BIN)/python -m paddlerec_milvus.retrieval.server

openapi: .venv/installed-dev  ## keep the calls as they are described now: make test fails on what breaks them
	@$(BIN)/python tests/serving/openapi_changes.py

# after a change of deploy/chart or of a setting; helm is that of make deploy-check
chart: .venv/installed-dev  ## remake what is made of the chart: deploy/kubernetes, its README, the settings in its schema
	@.ci/deploy_tools
	@PATH="$(CURDIR)/build/deploy-tools:$$PATH" PYTHONPATH="$(CURDIR)" $(BIN)/python .ci/chart.py

dist: .venv/installed-dev  ## the wheel and the source archive, in dist/, looked at by twine
	@rm -rf build dist
	@$(BIN)/python -m build
	@$(BIN)/twine check --strict dist/*

lock: .venv/installed-dev  ## remake requirements.lock from setup.cfg
	@$(PIP) uv
	@$(BIN)/uv pip compile --universal --python-version 3.10 --quiet --no-annotate --no-header --upgrade \
	  --extra train --extra export --extra server --extra serve --extra redis --extra spark --extra bench --extra hnswlib --extra docs --extra deploy --extra dev setup.cfg -o requirements.lock
	@sed -i '1i # Locked versions of what setup.cfg asks for (torch, peers and gpu are not), used as constraints. Remake: make lock' requirements.lock

clean:  ## remove .venv and what the demo wrote
	rm -rf .venv demo datasets/sample models/recall/*/output_* models/recall/*/milvus.db*
