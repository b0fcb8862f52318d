"""Networks as pictures: a layered layout, SVG, and the graph that shows itself in notebooks."""

from symgrad.drawing.diagram import Box, Diagram, Link
from symgrad.drawing.graph import Graph, network_diagram
from symgrad.drawing.svg import svg

__all__ = ["Box", "Diagram", "Graph", "Link", "network_diagram", "svg"]
