"""Files as lists for a reader."""

from insightr_nb import files


def test_a_listing_has_a_line_per_file_and_one_for_a_large_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", ".lock", "few/b.png", "many/c.jpg", "many/d.jpg", "many/deep/e.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(500_000))
    assert files.listing(tmp_path, most=2).splitlines() == [
        "    0.500 MB  a.csv",
        "    0.500 MB  few/b.png",
        "    1.500 MB  many/ (3 files)",
    ]
