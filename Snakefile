# Table 1, the ablations and the figures of the paper: prepare -> backbone -> train -> tables.
#
#   snakemake --profile profiles/local                      what `make tables` runs
#   snakemake --profile profiles/local sweeps               what `make sweeps` runs
#   snakemake --profile profiles/local trust                what `make trust` runs
#   snakemake --profile profiles/slurm                      the same on a cluster
#   snakemake --profile profiles/local --config preset=smoke folds=2 variants=baseline,insightr
#   snakemake --profile profiles/local sweeps --config sweep="k:1,2,3 delta:0.5,1" sweep_folds=5
#
# Every job is a notebook run by papermill. Its executed copy is the log, so it is kept when the job fails; only
# metrics.json is an output, since Snakemake deletes the outputs of a failed job, and a run must be able to go on.

import contextlib
import json
import os
import shlex
import sys

from insightr_nb import files, runs
from insightr_nb.analysis import seeds, sweeps
from insightr_nb.checked import suggest
from insightr_nb.data.prepare import prepare
from insightr_nb.errors import SettingsError
from insightr_nb.parameters import TableSettings
from insightr_nb.settings import RunSettings
from insightr_nb.training import gpu, hardware

KNOWN = ("dataset", "name", "data_folder", "preset", "folds", "variants", "continuous", "sweep", "sweep_folds",
         "seeds", "seed_folds", "images", "masks", "threads")
for key in config:
    if key not in KNOWN:
        raise SettingsError(f"--config {key}: {suggest(key, KNOWN)}")

WRITTEN = dict(entry.split("=", 1) for entry in workflow.config_settings.config_args or [])


def text(key):
    """A value of --config as it was written, because Snakemake takes 2024_01_15 for a number even in quotes."""
    return WRITTEN.get(key, str(config.get(key) or "")).strip("'\"") or None


DATASET = config.get("dataset", "synthetic")
NAME = text("name")
FOLDER = text("data_folder")
PRESET = config.get("preset", "demo")


def settings(**given):
    return RunSettings.from_parameters(dataset=DATASET, name=NAME, preset=PRESET, **given)


def words(key, default, between=","):
    """Parts of a value of --config; no parts for "none" and for an empty value."""
    value = config.get(key, default)
    return [part for part in ("" if value is None else str(value)).split(between) if part not in ("", "none")]


def listed(key, default):
    """Names of variants, with commas between."""
    names = words(key, default)
    for name in names:
        settings(variant=name)
    return names


def folds(key, default):
    """The folds to make, counted from 0."""
    count = int(config.get(key, default))
    settings(fold=count - 1)  # an error that says how many there are
    return range(count)


FOLDS = folds("folds", settings().data.folds)
VARIANTS = listed("variants", "baseline,insightr,log_similarity,no_psd,no_cluster,no_cluster_no_psd,no_min_k")
CONTINUOUS = listed("continuous", "baseline,insightr")
SWEEP_FOLDS = folds("sweep_folds", min(3, settings().data.folds))
SWEEP, SWEPT_PRESET = [], TableSettings(dataset=DATASET, name=NAME, preset=PRESET)
LAYERS = ",".join(sweeps.localities(SWEPT_PRESET))
USUAL = "prototypes:10,25,50,100 cluster:0,0.03,0.1,0.3,1" + f" locality:{LAYERS}" * bool(LAYERS)
for each in words("sweep", USUAL, between=None):
    parameter, _, values = each.partition(":")
    SWEEP += sweeps.sweep(SWEPT_PRESET, parameter, values.split(","), SWEEP_FOLDS)
# Other seeds of the usual sweeps; with a sweep of one's own only where they are asked for.
SEEDS = [int(seed) for seed in words("seeds", "none" if "sweep" in config else "0,1,2")]
SWEEP += seeds.seed_runs(SWEPT_PRESET, SEEDS, folds("seed_folds", min(2, settings().data.folds)))

ROOT = str(files.outputs_root())
STORE = f"{ROOT}/data/{settings().data.store_name}-{settings().data.size}/meta.json"
if FOLDER and workflow.is_main_process and os.path.exists(STORE):  # the rule `prepare` will not run
    with contextlib.redirect_stdout(sys.stderr):  # stdout may be a graph of the jobs
        prepare(settings(data_folder=FOLDER).data)  # an error if the folder has changed since
RUN = f"{ROOT}/runs/{settings().data.store_name}/{PRESET}"
TABLES = f"{ROOT}/tables/{settings().data.store_name}/{PRESET}"
DATA = f"-p dataset {DATASET} -p preset {PRESET}" + (f" -r name {shlex.quote(NAME)}" if NAME else "")
FROM = f" -r data_folder {shlex.quote(FOLDER)}" if FOLDER else ""
MASKS = f" -r masks {shlex.quote(text('masks'))}" if text("masks") else ""
MEASURED = f" -p images {int(config.get('images', 120))}{MASKS}"
GPU = "python -m insightr_nb.training.gpu"  # a card of its own for every local job
# Trainings side by side: as many as cards, times INSIGHTR_JOBS_PER_CARD; without cards two, of half the cores each,
# which do more than one of all.
SIDE_BY_SIDE = gpu.capacity() or 2
THREADS = int(config.get("threads") or hardware.threads_of_each(SIDE_BY_SIDE, workflow.resource_settings.cores or 1))

TRAINED = [f"{RUN}/{labels}/{variant}/fold{fold}/metrics.json" for fold in FOLDS
           for labels, variants in (("categorical", VARIANTS), ("continuous", CONTINUOUS)) for variant in variants]
SWEPT = [f"{runs.run_directory(run)}/metrics.json" for run in SWEEP]
COUNT, ROWS, CONTINUOUS_ROWS = len(FOLDS), ",".join(VARIANTS), ",".join(CONTINUOUS) or "none"

wildcard_constraints:
    fold=r"\d+", seed=r"\d+", labels="categorical|continuous", variant="(?!backbone)[a-z_]+", tag="[a-z]+-[a-z0-9.e+-]+"

localrules: all, sweeps, trust


rule all:
    input: f"{TABLES}/table1.md", f"{TABLES}/findings.md"


rule sweeps:
    input: f"{TABLES}/sweeps.csv"


rule trust:
    input: f"{RUN}/categorical/insightr/fold{FOLDS[0]}/trust/trust.json"


rule prepare:
    output: STORE
    log: f"{ROOT}/notebooks/{PRESET}/01_prepare_data.ipynb"
    retries: 1
    shell: "papermill notebooks/01_prepare_data.ipynb {log:q} --no-progress-bar {DATA}{FROM}"


rule backbone:
    input: ancient(STORE)
    output: RUN + "/{labels}/backbone/fold{fold}/metrics.json"
    log: f"{ROOT}/notebooks/{PRESET}" + "/03_train_{labels}_backbone_fold{fold}.ipynb"
    threads: THREADS
    retries: 1
    shell:
        "{GPU} papermill notebooks/03_train.ipynb {log:q} --no-progress-bar {DATA} -p variant backbone"
        " -p labels {wildcards.labels} -p fold {wildcards.fold}"


rule train:
    input: RUN + "/{labels}/backbone/fold{fold}/metrics.json"
    output: RUN + "/{labels}/{variant}/fold{fold}/metrics.json"
    log: f"{ROOT}/notebooks/{PRESET}" + "/03_train_{labels}_{variant}_fold{fold}.ipynb"
    threads: THREADS
    retries: 1
    shell:
        "{GPU} papermill notebooks/03_train.ipynb {log:q} --no-progress-bar {DATA} -p variant {wildcards.variant}"
        " -p labels {wildcards.labels} -p fold {wildcards.fold}"


def swept(wildcards):
    """The run of a sweep, or with another seed, by its variant, fold and tag."""
    of = (wildcards.variant, wildcards.fold, wildcards.tag)
    return next(run for run in SWEEP if (run.variant, str(run.fold), run.tag) == of)


def shared_backbone(wildcards):
    """What the run of a sweep starts from; one that changes the backbone makes its own in its notebook."""
    run = swept(wildcards)
    backbone = run.backbone_run()
    shared = backbone and (not backbone.tag or run.seed)
    return f"{runs.run_directory(backbone)}/metrics.json" if shared else ancient(STORE)


rule seeded_backbone:
    input: ancient(STORE)
    output: RUN + "/categorical/backbone/fold{fold}-seed-{seed}/metrics.json"
    log: f"{ROOT}/notebooks/{PRESET}" + "/03_train_backbone_seed-{seed}_fold{fold}.ipynb"
    threads: THREADS
    retries: 1
    shell:
        "{GPU} papermill notebooks/03_train.ipynb {log:q} --no-progress-bar {DATA} -p variant backbone"
        " -p fold {wildcards.fold} -p seed {wildcards.seed} -p tag seed-{wildcards.seed}"


rule sweep:
    input: shared_backbone
    output: RUN + "/categorical/{variant}/fold{fold}-{tag}/metrics.json"
    log: f"{ROOT}/notebooks/{PRESET}" + "/03_train_{variant}_{tag}_fold{fold}.ipynb"
    threads: THREADS
    retries: 1
    params:
        seed=lambda wildcards: swept(wildcards).seed,
        overrides=lambda wildcards: json.dumps(swept(wildcards).changes()),
    shell:
        "{GPU} papermill notebooks/03_train.ipynb {log:q} --no-progress-bar {DATA} -p variant {wildcards.variant}"
        " -p fold {wildcards.fold} -p seed {params.seed} -p overrides {params.overrides:q} -p tag {wildcards.tag}"


rule tables:
    input: TRAINED
    output: f"{TABLES}/table1.md"
    log: f"{ROOT}/notebooks/{PRESET}/05_tables.ipynb"
    retries: 1
    shell:
        "papermill notebooks/05_tables.ipynb {log:q} --no-progress-bar {DATA} -p folds {COUNT}"
        " -p variants {ROWS} -p continuous {CONTINUOUS_ROWS}"


rule curves:
    input: SWEPT
    output: f"{TABLES}/sweeps.csv"
    log: f"{ROOT}/notebooks/{PRESET}/06_ablations_sweeps.ipynb"
    retries: 1
    shell: "papermill notebooks/06_ablations.ipynb {log:q} --no-progress-bar {DATA} -p folds {COUNT} -p variants {ROWS}"


rule ablations:
    input: TRAINED
    output: f"{TABLES}/findings.md"
    log: f"{ROOT}/notebooks/{PRESET}/06_ablations.ipynb"
    retries: 1
    shell:
        "papermill notebooks/06_ablations.ipynb {log:q} --no-progress-bar {DATA} -p folds {COUNT}"
        " -p variants {ROWS}"


def other_folds(wildcards):
    """Fold 0 pools the folds, so it is measured after the others."""
    others = FOLDS[1:] if int(wildcards.fold) == FOLDS[0] else []
    return [f"{RUN}/categorical/insightr/fold{fold}/trust/trust.json" for fold in others]


rule measure_trust:
    input:
        [f"{RUN}/categorical/insightr/fold{fold}/metrics.json" for fold in FOLDS],
        RUN + "/categorical/baseline/fold{fold}/metrics.json",
        others=other_folds,
    output: RUN + "/categorical/insightr/fold{fold}/trust/trust.json"
    log: f"{ROOT}/notebooks/{PRESET}" + "/08_trust_fold{fold}.ipynb"
    threads: THREADS
    retries: 1
    shell: "{GPU} papermill notebooks/08_trust.ipynb {log:q} --no-progress-bar {DATA} -p fold {wildcards.fold}{MEASURED}"
