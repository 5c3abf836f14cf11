"""Decoding of image files in the formats that data sets use."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from insightr_nb.data.images import jpeg_hole, read_image
from insightr_nb.errors import DataError

QUARTERS = np.zeros((40, 60, 3), np.uint8)  # red, green / blue, white
QUARTERS[:20, :30], QUARTERS[:20, 30:], QUARTERS[20:, :30], QUARTERS[20:, 30:] = (
    (200, 0, 0),
    (0, 200, 0),
    (0, 0, 200),
    (200, 200, 200),
)


def test_a_photograph_is_turned_upright_as_exif_says(tmp_path):
    """Orientation 6: the camera was held so that the file must be turned clockwise by 90 degrees."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(QUARTERS).save(tmp_path / "x.jpg", exif=exif, quality=95)
    got = read_image(tmp_path / "x.jpg")
    assert got.shape == (60, 40, 3)
    assert np.abs(got.astype(int) - np.rot90(QUARTERS, -1)).mean() < 5
    assert read_image(tmp_path / "x.jpg", shortest=10).shape == (15, 10, 3)


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "x.jpg"), ("CMYK", "x.tif"), ("P", "x.png"), ("RGBA", "x.png")])
def test_other_colour_models_become_rgb(tmp_path, mode, name):
    Image.fromarray(QUARTERS).convert(mode).save(tmp_path / name, **({"quality": 95} if name.endswith("jpg") else {}))
    got = read_image(tmp_path / name)
    assert (got.dtype, got.shape) == (np.uint8, (40, 60, 3))
    for row, column in ((10, 15), (10, 45), (30, 15), (30, 45)):
        assert np.abs(got[row, column].astype(int) - QUARTERS[row, column]).max() < 60, (row, column, got[row, column])


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_16_bits_become_8(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), np.full((4, 6), 77 * 256 + 9, np.uint16))
    assert (read_image(tmp_path / name) == 77).all()


@pytest.mark.parametrize(
    ("shortest", "shape"),
    [
        (None, (200, 304)),
        (200, (200, 304)),
        (101, (200, 304)),
        (100, (100, 152)),
        (50, (50, 76)),
        (26, (50, 76)),
        (25, (25, 38)),
        (3, (25, 38)),
    ],
)
def test_a_jpeg_is_decoded_no_smaller_than_needed(tmp_path, shortest, shape):
    cv2.imwrite(str(tmp_path / "x.jpg"), np.full((200, 304, 3), (10, 20, 30), np.uint8))
    got = read_image(tmp_path / "x.jpg", shortest)
    assert got.shape == (*shape, 3)
    assert np.abs(got[5, 5].astype(int) - (30, 20, 10)).max() <= 2


def test_png_is_decoded_at_full_size(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((200, 304, 3), np.uint8))
    assert read_image(tmp_path / "x.png", 10).shape == (200, 304, 3)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["x.jpg", "x.png"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, name, share):
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    content = cv2.imencode(name[1:], image)[1].tobytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    for shortest in (None, 8):
        with pytest.raises(DataError, match=rf"{name}: cannot be decoded as an image .*truncated"):
            read_image(tmp_path / name, shortest)


def encoded(image: np.ndarray, **how) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **how)
    return file.getvalue()


@pytest.mark.parametrize(("size", "damaged"), [(60, False), (64, True), (3000, True)])
def test_zeros_inside_a_jpeg_are_noticed_where_the_decoder_is_silent(tmp_path, size, damaged):
    """Of a noisy photograph of high quality; the decoder then finds as many blocks as it needs."""
    content = encoded(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8), quality=98)
    middle = len(content) // 2
    (tmp_path / "x.jpg").write_bytes(content[:middle] + b"a" + bytes(size) + b"a" + content[middle + size + 2 :])
    assert jpeg_hole(tmp_path / "x.jpg") == (f"at least 64 zero bytes in a row at byte {middle + 1}" if damaged else "")


@pytest.mark.parametrize("how", [{}, {"optimize": True}, {"progressive": True}])
def test_zeros_that_mean_something_or_nothing_are_no_damage(tmp_path, how):
    """Even areas, which some encoders code as zeros; a thumbnail's place in the header; padding at the end."""
    exif = Image.Exif()
    exif[0x927C] = bytes(500)
    content = encoded(np.zeros((512, 512, 3), np.uint8), exif=exif, **how)
    assert (bytes(64) in content.partition(b"\xff\xda")[2]) == bool(how)
    assert content.endswith(b"\xff\xd9")
    for padded in (content + bytes(500), content[:-2] + bytes(500) + content[-2:]):
        (tmp_path / "x.jpg").write_bytes(padded)
        assert jpeg_hole(tmp_path / "x.jpg") == ""


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc4\x00\x20\x10", b"\xff\xd8\xff\xda\x00", b"PNG"]
)
def test_what_is_no_whole_jpeg_has_no_hole(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content + bytes(5))
    assert jpeg_hole(tmp_path / "x.jpg") == ""


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match=r"x\.jpg: cannot be decoded .*; it is a Git LFS pointer.*git lfs pull"):
        read_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("bits", [10, 12])
def test_10_and_12_bit_values_in_16_bit_files_are_scaled(tmp_path, bits):
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint16)
    image[0, 0] = 255
    cv2.imwrite(str(tmp_path / "x.png"), np.round(image[..., ::-1] * ((2**bits - 1) / 255)).astype(np.uint16))
    assert np.abs(read_image(tmp_path / "x.png").astype(int) - image).max() <= 1


@pytest.mark.parametrize(
    ("name", "image", "expect"),
    [
        ("a.png", np.full((4, 6, 3), (30, 20, 10), np.uint8), (10, 20, 30)),  # OpenCV writes blue first
        ("grey.png", np.full((4, 6), 77, np.uint8), (77, 77, 77)),
        ("transparent.png", np.full((4, 6, 4), (30, 20, 10, 0), np.uint8), (10, 20, 30)),
        ("deep.tif", np.full((4, 6, 3), (30 * 256, 20 * 256, 10 * 256), np.uint16), (10, 20, 30)),
    ],
)
def test_image_files_are_read_as_rgb(tmp_path, name, image, expect):
    cv2.imwrite(str(tmp_path / name), image)
    got = read_image(tmp_path / name)
    assert (got.dtype, got.shape) == (np.uint8, (4, 6, 3))
    assert got[2, 3].tolist() == list(expect)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"x\.jpg: cannot be read \(No such file or directory\)"),
        (b"", r"x\.jpg: cannot be decoded as an image \(0 bytes"),
        (b"<html>404</html>", r"x\.jpg: cannot be decoded as an image \(16 bytes"),
        ("cut", r"x\.jpg: cannot be decoded as an image \(\d+ bytes"),
    ],
    ids=["missing", "empty", "text", "cut off"],
)
def test_a_file_that_is_no_image_is_named(tmp_path, content, message):
    path = tmp_path / "x.jpg"
    if content == "cut":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        content = cv2.imencode(".jpg", noise)[1].tobytes()[:2000]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_image(path)
