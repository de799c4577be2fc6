"""How messages show a value."""


def shown(value: object) -> str:
    """Return a value's representation in one line, shortened."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"
