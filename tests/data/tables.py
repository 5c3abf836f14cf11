"""Label tables for the tests of the data side."""

TEN = [f"{i:03d}.jpg" for i in range(10)]
LABELS = [0, 1] * 5


def listing(images, labels, column: str = "label") -> str:
    return f"image,{column}\n" + "".join(f"{i},{v}\n" for i, v in zip(images, labels, strict=True))


PLAIN = listing(TEN, LABELS)
