"""python -m bench: every measurement, to outputs/bench/bench.json and bench.md."""

import os

from bench import measure, network, preparation, runs
from insightr_nb import files
from insightr_nb.training import hardware

IDRID = files.given_path(os.environ.get("IDRID", files.PROJECT.parent / "shared" / "data" / "idrid"))


def main() -> None:
    device = hardware.choose_device()
    machine = hardware.describe(device)
    rows = network.run(device) + runs.run() + preparation.run(IDRID if IDRID.is_dir() else None)
    folder = files.outputs_root() / "bench"
    files.write_json(folder / "bench.json", {"hardware": machine, "rows": [row.as_dict() for row in rows]})
    text = measure.markdown(rows, f"{machine['processor']}, {machine['cores']} cores, device {machine['device']}")
    with files.atomic(folder / "bench.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
