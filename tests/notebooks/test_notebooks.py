"""Every notebook, run by papermill as a user runs it, at preset `smoke`."""

import json
import shutil

import nbformat
import papermill
import pytest
from notebooks.running import run, succeed
from places import ROOT

from insightr_nb.runs import Run

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_clean_and_has_a_typed_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert not any(c.outputs or c.execution_count for c in code), "outputs in git: run nbstripout"
    assert notebook.cells[0].cell_type == "markdown"
    assert "| **Output** |" in notebook.cells[0].source
    assert "| **Time** |" in notebook.cells[0].source
    assert "| **Next** |" in notebook.cells[0].source
    links = "".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert ".ipynb)" not in links, "a link between notebooks is broken in the executed copies"
    assert code[0].metadata.get("tags") == ["parameters"]
    parameters = papermill.inspect_notebook(str(path))
    assert parameters
    for name, found in parameters.items():
        assert found["inferred_type_name"] != "None", f"{name} has no type"
        assert found["help"], f"{name} has no comment"
    assert not any("../" in c.source for c in code)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The outputs of `papermill notebooks/03_train.ipynb out.ipynb -p fold 2` where nothing was run before."""
    folder = tmp_path_factory.mktemp("fresh")
    text = succeed("03_train", folder, preset="smoke", fold=2)
    return folder, text


def test_05_and_06_show_what_is_missing_and_what_is_there(fresh):
    folder, _ = fresh
    text = succeed("05_tables", folder, preset="smoke", folds=3, variants="baseline,insightr", continuous="none")
    assert "1 of 6 runs are finished" in text
    command = "papermill notebooks/03_train.ipynb out.ipynb -p preset smoke -p variant baseline -p fold $fold"
    assert f"5 runs missing:\nfor fold in 0 1 2; do {command}; done\n" in text
    written = folder / "tables/synthetic/smoke"
    assert "missing (2 of 3 folds)" in (written / "table1.md").read_text()
    text = succeed("06_ablations", folder, preset="smoke", folds=3, variants="insightr", shown="insightr", fold=2)
    assert "No sweep is finished" in text
    assert (written / "figures/figure_3.png").stat().st_size > 20_000
    assert (written / "findings.md").read_text().count("open: runs are missing") == 14
    wrong = run("05_tables", folder, preset="smoke", variant="insightr")
    assert wrong.returncode != 0
    assert "unknown parameter 'variant': did you mean 'variants'" in wrong.stderr


def test_07_shows_static_figures_without_a_browser_and_says_when_there_is_no_run(fresh, tmp_path):
    folder, _ = fresh
    succeed("07_explore", folder)
    cells = nbformat.read(folder / "07_explore.ipynb", as_version=4).cells
    pictures = [o for c in cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    assert "Create one with: papermill notebooks/03_train.ipynb" in succeed("07_explore", tmp_path)


def test_07_says_what_to_do_once_it_is_opened_again_and_how_large_an_upload_may_be():
    cells = nbformat.read(ROOT / "notebooks/07_explore.ipynb", as_version=4).cells
    text = " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())
    assert "the notebook was reopened without its kernel: choose **Run > Run All Cells**" in text
    assert "Uploads above 10 MB need a JupyterLab started by `make lab` (up to 100 MB)" in text


def test_03_trains_where_nothing_was_run_before(fresh):
    folder, text = fresh
    run = Run(folder / "runs/synthetic/smoke/categorical/insightr/fold2")
    assert run.state == "finished"
    assert Run(folder / "runs/synthetic/smoke/categorical/backbone/fold2").state == "finished"
    assert (run / "figures" / "training_curves.png").stat().st_size > 10_000
    assert "epoch   6/6 last layer" in text
    assert "minutes on this machine" in text


def test_04_shows_the_finished_run(fresh):
    folder, _ = fresh
    text = succeed("04_projection", folder, preset="smoke", fold=2)
    assert "10 prototypes from" in text
    figures = {p.name for p in (folder / "runs/synthetic/smoke/categorical/insightr/fold2/figures").iterdir()}
    assert {"prototypes.png", "latent_space.png"} < figures
    assert sum(name.startswith("explanation_") for name in figures) == 6  # three pictures, three JSON files


def test_08_puts_the_run_to_the_test(fresh):
    folder, _ = fresh
    text = succeed("08_trust", folder, preset="smoke", fold=2, images=6)
    assert "No finished baseline to compare with. Create it with: papermill" in text
    assert "their largest difference is" in text
    succeed("03_train", folder, preset="smoke", fold=2, variant="baseline")
    text = succeed("08_trust", folder, preset="smoke", fold=2, images=6, image="p00000_left")
    assert "No finished baseline" not in text
    written = folder / "runs/synthetic/smoke/categorical/insightr/fold2/trust"
    assert "Grad-CAM of the baseline" in (written / "lesions.csv").read_text()
    assert json.loads((written / "explanation_p00000_left.json").read_text())["prototypes"][0]["share"] > 0
    pictures = {p.stem for p in written.glob("*.png")}
    assert {"pointing", "mass_ratio", "deletion", "stability", "audit", "referral", "prototype_drift"} <= pictures
    assert "traced" in pictures
    assert "INSightR-Net, top 1, traced" in (written / "lesions.csv").read_text()
    verdicts = (written / "verdicts.csv").read_text()
    assert (
        "peaks on a lesion more often than with a random backbone,these data cannot tell" in verdicts
    )  # of six images
    assert Run(written.parent).damage() == []


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("04_projection", {}),
        ("05_tables", {"folds": 1}),
        ("06_ablations", {"folds": 1, "shown": "insightr"}),
        ("07_explore", {}),
        ("08_trust", {}),
    ],
)
def test_a_damaged_run_is_refused_with_the_reason(fresh, tmp_path, name, extra):
    folder, _ = fresh
    for part in ("data/synthetic-64", "runs/synthetic/smoke/categorical/insightr/fold2"):
        shutil.copytree(folder / part, tmp_path / part.replace("fold2", "fold0"))
    path = tmp_path / "runs/synthetic/smoke/categorical/insightr/fold0"
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["settings"]["fold"] = 0
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "weights.npy").write_bytes((path / "weights.npy").read_bytes()[:-4])
    variants = {"variants": "insightr"} if "folds" in extra else {}
    preset = {} if name == "07_explore" else {"preset": "smoke"}
    done = run(name, tmp_path, **preset, **extra, **variants)
    text = done.stderr
    if name == "07_explore":  # shows it in place of the pictures
        cells = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4).cells
        text += "".join(str(o) for c in cells if c.cell_type == "code" for o in c.outputs)
    else:
        assert done.returncode != 0
    assert "weights.npy has" in text


def test_01_and_02(fresh):
    folder, _ = fresh
    text = succeed("01_prepare_data", folder, preset="smoke")
    assert "160 images of 64 x 64 px, 0 rejected" in text
    assert "No patient is in more than one part" in text
    assert (folder / "data/synthetic-64/figures/five_grades.png").exists()
    succeed("02_model", folder, preset="smoke")
    assert (folder / "figures/02_model/architecture.png").exists()


@pytest.mark.parametrize("variant", ["baseline", "log_similarity"])
def test_03_trains_the_other_variants(fresh, variant):
    folder, _ = fresh
    succeed("03_train", folder, preset="smoke", fold=2, variant=variant)
    metrics = json.loads((folder / f"runs/synthetic/smoke/categorical/{variant}/fold2/metrics.json").read_text())
    assert (metrics["sparsity"] is None) == (variant == "baseline")
