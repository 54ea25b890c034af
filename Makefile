# endosfm3d_ros: `make` lists what can be made.
PYTHON ?= python3
OUT ?= demo_out
CLIP ?=
SRC ?=

VENV := .venv/bin
# The ROS wheels mark a process whose library path is set; a mark inherited from another venv lies.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: help setup setup-test setup-training demo test test-all lint test-kilted upstream bench soak clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## .venv with all that the package needs to run; again is cheap (PYTHON=python3.12 to choose)
	@$(PYTHON) tools/setup

setup-test: ## the same, and what tests and lint need (training too)
	@$(PYTHON) tools/setup --with test --with training

setup-training: ## the same, and torch, to train and export networks
	@$(PYTHON) tools/setup --with training

demo: setup ## play a clip through the node over real DDS, report in demo_out/ (CLIP=path.mp4, OUT=folder, ARGS=--no-pictures)
	$(VENV)/endosfm3d demo --out '$(OUT)' $(if $(CLIP),'$(CLIP)') $(ARGS)

test: setup-test ## all tests that take minutes together
	$(VENV)/python -m pytest -n 2 --dist loadfile -m 'not slow and not gpu' $(ARGS)

test-all: setup-test ## the slow ones too
	$(VENV)/python -m pytest $(ARGS)

lint: setup-test ## ruff, its formatter, and mypy
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

test-kilted: ## the tests that touch ROS, on the wheels of the next distribution, in .venv-kilted
	$(PYTHON) tools/test_kilted.py $(ARGS)

upstream: setup-test ## launch files, TF, clouds and pictures against real upstream packages (SRC=folder of checkouts)
	$(VENV)/python tools/upstream.py '$(SRC)'

bench: setup-training ## time everything on this machine, beside the usual ways, into bench_out/ (docs/performance.md; ARGS="live --seconds 10")
	$(VENV)/python -m bench $(ARGS)

soak: setup ## the node at 30 Hz for half an hour: memory and latency (ARGS="--minutes 3")
	$(VENV)/python -m bench soak --sizes 720p $(ARGS)

clean: ## remove .venv and everything that was made
	rm -rf .venv .venv-kilted demo_out bench_out build install log *.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
