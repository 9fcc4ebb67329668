"""HTML as a tree, so that no text gets into a page without being escaped."""

import re
from xml.etree import ElementTree

Element = ElementTree.Element
Child = Element | str | None

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Characters that HTML forbids, and file names may have."""
INLINE = re.compile(r"`([^`]+)`|\*([^*]+)\*")


def element(tag: str, /, *children: Child, **attributes: str) -> Element:
    """An element of HTML or SVG.

    Args:
        tag: Its name.
        *children: Elements and text; None is passed over.
        **attributes: A trailing underscore is dropped, others become hyphens: ``class_``,
            ``aria_label``.

    Example:
        >>> written(element("p", "a < b", element("br"), class_="note", aria_label='"'))
        '<p class="note" aria-label="&quot;">a &lt; b<br></p>'
    """
    named = {key.rstrip("_").replace("_", "-"): clean(value) for key, value in attributes.items()}
    made = ElementTree.Element(tag, named)
    last: Element | None = None
    for child in children:
        if isinstance(child, str):
            if last is None:
                made.text = (made.text or "") + clean(child)
            else:
                last.tail = (last.tail or "") + clean(child)
        elif child is not None:
            made.append(child)
            last = child
    return made


def inline(text: str) -> list[Child]:
    """Text in which backticks mean code and asterisks emphasis, as the benchmarks' pages have it.

    Example:
        >>> written(element("p", *inline("`spp` is *not* a network")))
        '<p><code>spp</code> is <em>not</em> a network</p>'
    """
    parts: list[Child] = []
    end = 0
    for match in INLINE.finditer(text):
        code, stressed = match.groups()
        marked = element("code", code) if code else element("em", stressed)
        parts += [text[end : match.start()], marked]
        end = match.end()
    return [*parts, text[end:]]


def written(root: Element) -> str:
    """The tree as HTML; text is escaped, that of ``script`` and ``style`` stays as it is."""
    return ElementTree.tostring(root, encoding="unicode", method="html")


def clean(text: str) -> str:
    r"""Text without characters that no page may hold.

    Example:
        >>> clean("bell\a.mp4")
        'bell�.mp4'
    """
    readable = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", readable)
