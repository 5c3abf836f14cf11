"""Helper for the sentences that the notebooks print."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 image", "2 images"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
