# Few targets, each makes what it needs. `make` alone lists them.
VENV      ?= .venv
PYTHON    ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
               command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2])' 2>/dev/null && { echo $$p; break; }; done)
WORKFLOW  ?=
VARS      ?=
LAYER     ?= both
SYSTEM    ?= amazon-linux-2023
ARCHITECTURE ?= amd64
PACKER    ?=
BIN       := $(VENV)/bin
READY     := $(VENV)/.ready

.PHONY: help run test boot-test attack-test check planted-faults bench bundle image image-validate clean constraints
help:                  ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: $(READY)          ## the whole fleet on this machine: jobs of WORKFLOW=… from webhook to gone machine; FAULTS=storm
	@$(BIN)/runs-fleet local $(if $(WORKFLOW),"$(WORKFLOW)") $(if $(FAULTS),--faults $(FAULTS)) $(foreach var,$(VARS),--var "$(var)")

test boot-test attack-test: export PYTHONDONTWRITEBYTECODE =
# The tests start some thousand processes: each would compile what it imports anew.
test: $(READY)         ## every test that needs no root
	$(BIN)/python -m pytest -n 4 --dist loadfile -m "not root and not long"

boot-test: $(READY)    ## machines that really boot, as root: systemd, cloud-init, units, firewall (needs mmdebstrap, systemd-nspawn, nft, qemu)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "root and not attack" $(ONLY)

attack-test: $(READY) $(VENV)/ministack/.ready ## every attack that docs/security.md tells of; those on booted machines as root
	$(BIN)/python -m pytest -n 2 --dist worksteal -m attack $(ONLY)

check: $(READY)        ## style, types, layers, secrets, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/secrets.py
	$(BIN)/python .ci/audit.py

bundle: $(READY)       ## the agent with its installer as one archive in dist/, for images and for stock machines
	@$(BIN)/python packer/bundle.py $(BUNDLE)

image: $(READY)        ## bake an image: SYSTEM=… ARCHITECTURE=… RUNNER_SHA256=… [RUNNER_VERSION=…] [LAYER=base|runner] [PACKER="-var …"]
	@PYTHON=$(BIN)/python packer/bake.sh $(LAYER) $(SYSTEM) $(ARCHITECTURE) $(PACKER)

image-validate:        ## the image template, and every script that lands in an image
	@packer/validate.sh

planted-faults: $(READY) $(VENV)/ministack/.ready ## plant over 200 faults, one at a time: do the tests see them? Up to 90 minutes; goes on where it was stopped
	@$(BIN)/python -c "import cosmic_ray" 2>/dev/null || $(BIN)/python -m pip install --quiet --require-hashes -r constraints/faults.txt
	$(BIN)/python -m tests.planted --only "$(ONLY)"

bench: $(READY)        ## side-by-side measurements -> benchmarks/results.json and docs/benchmarks.md
	$(BIN)/python -m benchmarks.burst
	$(BIN)/python -m benchmarks

$(VENV)/ministack/.ready: constraints/ministack.txt $(READY)
# An AWS that checks policies. It pins its own botocore, so it has an environment of its own.
	@$(PYTHON) -m venv $(VENV)/ministack
	@$(VENV)/ministack/bin/python -m pip install --quiet --require-hashes -r constraints/ministack.txt
	@touch $@

clean:                 ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis .runs-fleet
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

constraints:           ## renew constraints/ (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q pyproject.toml -o constraints/agent.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q pyproject.toml --extra dev -c constraints/agent.txt -o constraints/dev.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q pyproject.toml --extra faults -c constraints/dev.txt -o constraints/faults.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q constraints/ministack.in -o constraints/ministack.txt

$(READY): pyproject.toml constraints/dev.txt
	@test -n "$(PYTHON)" || { echo "runs-fleet needs Python 3.11 or newer and found none: install one (Debian: apt-get install python3 python3-venv), or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON): about a minute, once"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "  1 of 3: the pinned packages of constraints/dev.txt"
	@$(BIN)/python -m pip install --quiet --require-hashes -r constraints/dev.txt
	@echo "  2 of 3: runs-fleet itself"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@echo "  3 of 3: byte code, so that every start is quick"
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q $(VENV)/lib agent orchestrator sandbox simulation >/dev/null || true
	@touch $@
