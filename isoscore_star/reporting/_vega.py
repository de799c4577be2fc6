"""The charts' library, Vega-Lite, as one script without network."""

from __future__ import annotations

from functools import cache

from isoscore_star.core.errors import MissingDependencyError


@cache
def bundle() -> str:
    """Return vega, vega-lite and vega-embed as one script.

    Returns
    -------
    str
        About 0.9 MB.

    Raises
    ------
    MissingDependencyError
        If vl-convert-python, which carries them, is not installed.
    """
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            'a report needs vl-convert-python, which carries its charts: pip install "isoscore-star[report]"'
        ) from error
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # What would end the script stands in strings of JavaScript only, where the backslash changes nothing.
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
