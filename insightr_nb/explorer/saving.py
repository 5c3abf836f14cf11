"""Save what the explorer shows of an explanation, as PNG and JSON."""

import itertools

from insightr_nb import files
from insightr_nb.analysis.explanation_figures import explanation_content, file_name
from insightr_nb.analysis.figures import save as save_figure
from insightr_nb.explorer import fixed
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.subject import Selection
from insightr_nb.explorer.viewer import Viewer


def save(e: Exploration, selection: Selection, viewer: Viewer) -> str:
    """Write `outputs/views/<image>.png` and `.json`: the pictures as they are seen, and the numbers.

    A view of the same image is kept under a new number. Returns both paths in words.
    """
    x, view = selection.explanation, selection.view
    folder, name = files.outputs_root() / "views", file_name(x.name)
    numbers = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    path = next(p for n in numbers if not (p := folder / f"{name}{n}.png").exists())
    reasons = x.reasons(view.count)
    drawn = fixed.figure(viewer.content, x, reasons, view.layers, selection.opacity, viewer.view)
    drawn.suptitle("\n".join([_title(e, selection), *x.warnings]), fontsize=10, parse_math=False, wrap=True)
    save_figure(drawn, path)
    matches = [{"prototypes": list(js), "share": float(x.shares[list(js)].sum())} for js in reasons]
    seen = {"layers": list(view.layers), "original": view.original, "opacity": selection.opacity, **viewer.view}
    content = explanation_content(e.loaded, x, view.count) | {"matches": matches, "view": seen}
    files.write_json(path.with_suffix(".json"), content)
    return f"{files.display_path(path)} and {path.with_suffix('.json').name}"


def _title(e: Exploration, selection: Selection) -> str:
    x = selection.explanation
    label = "" if x.target is None else f", label {x.target:g}"
    run = files.display_path(e.loaded.path)
    return f"{x.name}: prediction {x.prediction:.2f}{label}, uncertainty {x.uncertainty:.2f}\n{run}"
