"""Makes a matplotlib figure a picture in the page: SVG without scripts, whose lines switch on and off and whose points
say their values under the pointer, both by the page's CSS alone.

figures.py marks what belongs to a line of the legend, and what a point says, in the artists' gid, which matplotlib
writes as the element's id: `mark`.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

BETWEEN = "\u2063"  # a line's name and a point's value: the invisible separator, which no name holds
REACH = "9"  # points from a marker's middle within which the pointer shows its value
NAMESPACE = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True)
class Inline:
    """A picture for the page. `lines`: (name, colour, whether it is dashed) of each line of the legend."""

    svg: str
    lines: list[tuple[str, str, bool]]


def mark(line: str, value: str = "") -> str | None:
    """The gid of an artist that belongs to this line, and of a point that says this value."""
    return f"{line}{BETWEEN}{value}" if line or value else None


def inline(figure: "Figure", name: str) -> Inline:
    """The figure as SVG. `name` makes its ids unique in the page. The legend leaves the figure: the page writes it."""
    import matplotlib

    lines = [entry for legend in figure.legends for entry in entries(legend)]
    for legend in list(figure.legends):
        legend.remove()
    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(written.getvalue())
    return Inline(cleaned(root, name, [line for line, _, _ in lines]), lines)


def entries(legend: "Legend") -> Iterator[tuple[str, str, bool]]:
    """(name, colour, whether it is dashed) of each line in a legend."""
    from matplotlib.colors import to_hex, to_rgba_array

    handles: list[Any] = legend.legend_handles  # a line, or the bars of an error bar
    for text, handle in zip(legend.get_texts(), handles, strict=True):
        colour = to_hex(to_rgba_array(handle.get_color())[0])
        yield text.get_text(), colour, handle.get_linestyle() in ("--", ":")


def cleaned(root: Element, name: str, lines: list[str]) -> str:
    for element in root.iter():
        element.tag = NAMESPACE.sub("", element.tag)
        element.attrib = {NAMESPACE.sub("", key): value for key, value in element.attrib.items()}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):  # the style would hold for the whole page
                parent.remove(child)
    tips = [tip for element in list(root.iter()) for tip in marked(element, lines)]
    width, height = (float(size) for size in root.attrib["viewBox"].split()[2:])
    for tip, (x, y) in tips:  # last, so that nothing is drawn over them
        root.append(placed(tip, x, y, width, height))
    rename(root, name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "aria-hidden": "true", "focusable": "false"}
    for element in root.iter():
        element.tail = None
        element.text = None if element.text and not element.text.strip() else element.text
    return ElementTree.tostring(root, encoding="unicode")


def marked(element: Element, lines: list[str]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    """Gives the element the class of its line; yields ((class, value), place) where it is a point that has a value."""
    line, between, value = element.attrib.get("id", "").partition(BETWEEN)
    if not between:
        return
    del element.attrib["id"]
    of_line = f"l{lines.index(line)}" if line in lines else ""
    if of_line:
        element.attrib["class"] = of_line
    use = next(element.iter("use"), None)
    if value and use is not None:
        yield (of_line, value), (float(use.attrib["x"]), float(use.attrib["y"]))


def placed(tip: tuple[str, str], x: float, y: float, width: float, height: float) -> Element:
    """A round spot that shows its value while the pointer is on it, beside the point and within the picture."""
    of_line, value = tip
    group = Element("g", {"class": f"value {of_line}".strip()})
    ElementTree.SubElement(group, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": REACH})
    rows = value.split("\n")
    anchor = "start" if x < width / 3 else "end" if x > 2 * width / 3 else "middle"
    top = y + 20 if y < height / 2 else y - 11 * len(rows) - 2
    text = ElementTree.SubElement(group, "text", {"text-anchor": anchor, "y": f"{top:.1f}"})
    for number, row in enumerate(rows):
        span = ElementTree.SubElement(text, "tspan", {"x": f"{x:.1f}", "dy": "12" if number else "0"})
        span.text = row
    return group


def rename(root: Element, name: str) -> None:
    """Keeps the ids that something in the picture refers to, and makes them the page's own."""
    found = {value.lstrip("#") for element in root.iter() for value in references(element)}
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                if value in found:
                    element.attrib["id"] = f"{name}-{value}"
                else:
                    del element.attrib["id"]
            elif key == "href" and value.startswith("#"):
                element.attrib[key] = f"#{name}-{value[1:]}"
            elif "url(#" in value:
                element.attrib[key] = value.replace("url(#", f"url(#{name}-")


def references(element: Element) -> Iterator[str]:
    for key, value in element.attrib.items():
        if key == "href" and value.startswith("#"):
            yield value
        yield from re.findall(r"url\((#[^)]+)\)", value)
