"""python -m bench: every measurement, to outputs/bench/bench.json and bench.md."""

import os
import time

from bench import card, measure, network, preparation, runs
from insightr_nb import files
from insightr_nb.training import hardware

IDRID = files.given_path(os.environ.get("IDRID", files.PROJECT.parent / "shared" / "data" / "idrid"))


def main() -> None:
    device = hardware.choose_device()
    machine = hardware.describe(device)
    about = f"{machine['processor']}, {machine['cores']} cores, device {machine['device']}"
    idrid = IDRID if IDRID.is_dir() else None
    folder = files.outputs_root() / "bench"
    rows: list[measure.Row] = []
    for name, measured in (
        ("network", lambda: network.run(device)),
        ("runs", lambda: runs.run(device)),
        ("card", lambda: card.run(device)),
        ("preparation", lambda: preparation.run(idrid)),
    ):
        begin = time.monotonic()
        rows += measured()
        print(f"{name}: {(time.monotonic() - begin) / 60:.1f} minutes", flush=True)
        files.write_json(folder / "bench.json", {"hardware": machine, "rows": [row.as_dict() for row in rows]})
        with files.atomic(folder / "bench.md") as temporary:  # after each part, so that a failing one costs no other
            temporary.write_text(measure.markdown(rows, about), encoding="utf-8")
    print(measure.markdown(rows, about))


if __name__ == "__main__":
    main()
