"""Text from files and models, made harmless for HTML, for JSON inside a script, and for a reader's eye."""

from __future__ import annotations

import html
import json
from typing import Any

_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def visible(text: Any) -> str:
    r"""Write control characters, marks of direction and lone surrogates as escapes.

    Examples
    --------
    >>> print(visible("layer\u202e1"))
    layer\u202e1
    """
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode() for sign in str(text)
    )


def escaped(text: Any) -> str:
    """Escape text for HTML, between tags or as a quoted attribute.

    Examples
    --------
    >>> escaped('"><img src=x>')
    '&quot;&gt;&lt;img src=x&gt;'
    """
    return html.escape(visible(text), quote=True)


def json_in_script(content: Any) -> str:
    r"""Write JSON that no HTML parser can mistake for the end of its script, or for a comment.

    Examples
    --------
    >>> print(json_in_script(["</script>", "<!--"]))
    ["\u003c/script\u003e","\u003c!--"]
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for sign, escape in _IN_SCRIPT.items():
        text = text.replace(sign, escape)
    return text
