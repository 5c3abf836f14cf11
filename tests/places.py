"""Where the project and the folder shared beside it are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IDRID = ROOT.parent / "shared" / "data" / "idrid"  # 413 real photographs; cases that need them are skipped without
