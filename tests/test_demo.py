"""What `make demo` prints: the expected duration, and the metrics of both trained variants."""

import pytest
from analysis.handmade import make

from insightr_nb import demo
from insightr_nb.errors import RunError
from insightr_nb.settings import RunSettings


@pytest.fixture
def outputs_of_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    return tmp_path


def test_the_report_has_the_metrics_of_both_variants_and_where_files_are(outputs_of_demo, capsys):
    make(RunSettings.from_parameters(preset="smoke", variant="baseline"), error=0.25)
    make(RunSettings.from_parameters(preset="smoke", variant="insightr"), error=0.375, used=4)
    demo.report("smoke")
    lines = capsys.readouterr().out.splitlines()
    (head,) = (line.split() for line in lines if " mae " in line)
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("baseline", "insightr"))}
    assert rows["baseline"][head.index("mae")] == "0.25"
    assert rows["insightr"][head.index("mae")] == "0.375"
    assert (rows["baseline"][head.index("sparsity")], rows["insightr"][head.index("sparsity")]) == ("-", "4")
    assert {"gap", "spread", "ground"} <= set(head)
    text = "\n".join(lines)
    assert "runs/synthetic/smoke/categorical/insightr/fold0/figures" in text
    assert f"{outputs_of_demo.name}/notebooks" in text


def test_the_report_needs_both_runs(outputs_of_demo):
    make(RunSettings.from_parameters(preset="smoke", variant="baseline"))
    with pytest.raises(RunError) as caught:
        demo.report("smoke")
    assert "insightr/fold0" in str(caught.value)


def test_the_announcement_counts_pretraining_and_both_variants(monkeypatch, capsys):
    from insightr_nb.data import folds
    from insightr_nb.training import estimate

    seen = []
    monkeypatch.setattr(folds, "fold_data", lambda settings: "the data")
    monkeypatch.setattr(estimate, "measure", lambda settings, data: (settings.variant, data))
    monkeypatch.setattr(estimate, "expected_minutes", lambda steps, data, pace: seen.append((steps, data, pace)) or 7.4)
    demo.announce("smoke")
    ((steps, data, pace),) = seen
    assert [step.variant for step in steps] == ["backbone", "baseline", "insightr"]
    assert {step.preset for step in steps} == {"smoke"}
    assert (data, pace) == ("the data", ("backbone", "the data"))
    first, second = capsys.readouterr().out.splitlines()
    assert "threads on" in first
    assert "about 7 minutes of training" in second
