"""The commands of README are run as they are written, with preset `smoke` where they train."""

import os
import subprocess
import sys

import cv2
from places import ROOT
from texts import FENCE, commands, text_of

from insightr_nb.data import synthetic

README = text_of(ROOT / "README.md")


def test_papermill_commands_and_the_python_example_of_readme_run(tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    examples = [synthetic.photograph(n, 0, 100) for n in range(80)]
    for n, example in enumerate(examples):
        cv2.imwrite(str(photographs / f"{n:02d}.jpg"), example.image[..., ::-1])
    rows = "".join(f"{n:02d}.jpg,{example.grade}\n" for n, example in enumerate(examples))
    (photographs / "labels.csv").write_text("image,level\n" + rows)
    environment = os.environ | {"INSIGHTR_OUTPUTS": str(tmp_path / "outputs")}

    written = [words for words in commands(README) if words[0] == "papermill"]
    assert len(written) == 5
    for words in written:
        given = {"photo": "smoke", "path/to/folder": str(photographs), "out.ipynb": str(tmp_path / "out.ipynb")}
        options = [given.get(word, word) for word in words[1:]] + ["-p", "preset", "smoke"] * ("preset" not in words)
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", *options]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-3000:]}"
    runs = sorted(path.parent for path in (tmp_path / "outputs" / "runs").rglob("metrics.json"))
    names = {"/".join(run.relative_to(tmp_path / "outputs/runs").parts) for run in runs}
    assert names >= {
        "mine/smoke/categorical/insightr/fold0",
        "synthetic/smoke/categorical/baseline/fold2",
        "synthetic/smoke/categorical/insightr/fold0-k1",
    }

    (example,) = (block for language, block in FENCE.findall(README) if language == "python")
    example = example.replace("outputs/runs/synthetic/demo", str(tmp_path / "outputs/runs/mine/smoke"))
    example = example.replace("eye.jpg", str(photographs / "07.jpg"))
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("share") == 3
    assert "Explanation(07: prediction " in done.stdout
