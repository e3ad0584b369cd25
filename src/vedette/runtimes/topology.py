"""Topologies: who is whose neighbour among peers."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import Field

from vedette.errors import DataBroken, DataMissing, MissingExtra, RecipeError
from vedette.registry import Registry, suggestion
from vedette.seeds import seed_of, stream
from vedette.settings import Settings, named

__all__ = [
    "TOPOLOGIES",
    "AnyTopology",
    "EdgeFile",
    "Full",
    "Geometric",
    "Regular",
    "Ring",
    "Server",
    "Shape",
    "SmallWorld",
    "Star",
    "Topology",
    "components",
    "seen_by",
]

DRAWS = 1000
"""Random graphs that are drawn until one is connected. Of geometric ones with the default radius 3-4 % are among 5-10 nodes, so with
100 draws one fleet in twenty would find none."""


class Topology(Settings, ABC):
    """Base of graphs of peers: who hears whom, both ways.

    Parameters
    ----------
    every
        Another graph after so many rounds: the nodes change places, and what is random is drawn anew. 0: the same graph all the time.
        Nothing changes where all are joined, or where a file says who is.

    Attributes
    ----------
    central
        Whether a coordinator sees all answers, instead of peers those of their neighbours.
    """

    central: ClassVar[bool] = False

    every: int = Field(default=0, ge=0)

    @abstractmethod
    def neighbours(self, nodes: Sequence[str], round: int, seed: int) -> dict[str, tuple[str, ...]]:
        """Say who is whose neighbour.

        Parameters
        ----------
        nodes
            Node ids; their order matters.
        round
            From 0.
        seed
            Of the run.

        Returns
        -------
        dict
            Node -> its neighbours, sorted, without itself. Symmetric, and the same for the same arguments.

        Raises
        ------
        RecipeError
            No random graph holds together.
        DataMissing, DataBroken
            A file of edges that is not there or says something impossible.
        MissingExtra
            networkx is not installed.
        """

    def settled(self) -> Topology:
        """Return it as a plan holds it, with all that a file says.

        Raises
        ------
        DataMissing, DataBroken
            The file is not there, or is no list of edges.
        """
        return self


class Shape(Topology, ABC):
    """Base of topologies that join places, wherever the nodes stand. One node has no neighbour, two are each other's."""

    advice: ClassVar[str] = ""
    """How to make a random graph hold together, for messages."""

    @abstractmethod
    def graph(self, size: int, seed: int) -> Any:
        """Return a networkx graph of the places 0 … size - 1, three or more."""

    def order(self, nodes: Sequence[str], period: int, seed: int) -> list[str]:
        """Return which node stands at which place in a period of `every` rounds."""
        return [nodes[i] for i in stream(seed, "topology", period, "order").permutation(len(nodes))] if self.every else list(nodes)

    def neighbours(self, nodes: Sequence[str], round: int, seed: int) -> dict[str, tuple[str, ...]]:
        period = round // self.every if self.every else 0
        order, graph = self.order(nodes, period, seed), self._connected(len(nodes), period, seed)
        near = {order[place]: tuple(sorted(order[other] for other in graph.adj[place])) for place in graph}
        return {node: near[node] for node in nodes}

    def _connected(self, size: int, period: int, seed: int) -> Any:
        nx = _networkx()
        if size <= 2:
            return nx.complete_graph(size)
        for draw in range(DRAWS):
            graph = self.graph(size, seed_of(seed, "topology", period, draw))
            if nx.is_connected(graph):
                return graph
        raise RecipeError(f"topology: {DRAWS:,} graphs drawn, none joins all {size:,} nodes; {self.advice}")


class Full(Shape):
    """Everybody is everybody's neighbour."""

    def graph(self, size: int, seed: int) -> Any:
        return _networkx().complete_graph(size)


class Server(Full):
    """No peers: a coordinator that sees all answers. Neighbours, where somebody asks for them, are as in a full graph."""

    central: ClassVar[bool] = True


class Ring(Shape):
    """Each node between two others, in the order of the nodes, or in a random one that changes with `every`."""

    def graph(self, size: int, seed: int) -> Any:
        return _networkx().cycle_graph(size)


class Star(Shape):
    """A hub that is the only neighbour of all others: the first node, or with `every` one after the other in random order."""

    def order(self, nodes: Sequence[str], period: int, seed: int) -> list[str]:
        # One order for the whole run, so that no hub comes twice before all have been it.
        order = super().order(nodes, 0, seed)
        hub = period % max(len(order), 1)
        return order[hub:] + order[:hub]

    def graph(self, size: int, seed: int) -> Any:
        return _networkx().star_graph(size - 1)


class Regular(Shape):
    """Random graph in which all nodes have the same number of neighbours.

    Parameters
    ----------
    degree
        That number: all others where there are not so many, one more where degree and number of nodes are both odd, because no such
        graph exists.
    """

    advice: ClassVar[str] = "take a larger 'degree'"

    # With one neighbour each, more than two nodes never hold together.
    degree: int = Field(default=4, ge=2)

    def graph(self, size: int, seed: int) -> Any:
        nx = _networkx()
        degree = min(self.degree, size - 1)
        degree += degree * size % 2
        if degree <= size // 2:
            return nx.random_regular_graph(degree, size, seed)
        # Dense ones take networkx minutes (48 of 50 nodes: 39 s); who is not whose neighbour is as regular, and sparse.
        return nx.complement(nx.random_regular_graph(size - 1 - degree, size, seed))


class SmallWorld(Shape):
    """Ring of near neighbours with some edges moved to random nodes (Watts and Strogatz 1998).

    Parameters
    ----------
    degree
        Neighbours each has before edges are moved, half of them on each side; all others where there are not more.
    rewired
        Share of edges that are moved.
    """

    advice: ClassVar[str] = "take a larger 'degree' or a smaller 'rewired'"

    degree: int = Field(default=4, ge=2, multiple_of=2)
    rewired: float = Field(default=0.1, ge=0, le=1)

    def graph(self, size: int, seed: int) -> Any:
        nx = _networkx()
        return nx.complete_graph(size) if self.degree >= size - 1 else nx.watts_strogatz_graph(size, self.degree, self.rewired, seed)


class Geometric(Shape):
    """Random places in a square; who is near is a neighbour, as with radio.

    Parameters
    ----------
    radius
        How near, in sides of the square.
    """

    advice: ClassVar[str] = "take a larger 'radius'"

    radius: float = Field(default=0.3, gt=0)

    def graph(self, size: int, seed: int) -> Any:
        return _networkx().random_geometric_graph(size, self.radius, seed=seed)


class EdgeFile(Topology):
    """Neighbours as a file says, connected or not (see `components`).

    Parameters
    ----------
    path
        A text file with one edge a line, ``node,node`` as CSV has it: names with commas stand in quotes. Every node needs an edge.
        Empty lines and those that begin with ``#`` are skipped; an edge may be said more than once.
    edges
        What it says, in a plan: whoever joins has no such file, and one that changed would not go unnoticed.
    """

    path: Path
    edges: tuple[tuple[str, str], ...] = ()

    def settled(self) -> EdgeFile:
        return self.model_copy(update={"edges": tuple((one, other) for _, one, other in self._edges())})

    def neighbours(self, nodes: Sequence[str], round: int, seed: int) -> dict[str, tuple[str, ...]]:
        near: dict[str, set[str]] = {node: set() for node in nodes}
        for where, one, other in self._edges():
            for node in (one, other):
                if node not in near:
                    raise DataBroken(f"{where}: no node is called {node[:80]!r}; {suggestion(node[:80], near)}")
            if one == other:
                raise DataBroken(f"{where}: '{one}' is no neighbour of itself; name two nodes")
            near[one].add(other)
            near[other].add(one)
        alone = next((node for node in nodes if not near[node]), None)
        if alone is not None and len(nodes) > 1:
            raise DataBroken(f"{self.path}: node '{alone}' has no neighbour; add a line '{alone},…'")
        return {node: tuple(sorted(others)) for node, others in near.items()}

    def _edges(self) -> Iterator[tuple[str, str, str]]:
        """Yield each edge, with the place where it stands."""
        if self.edges:
            yield from ((str(self.path), *edge) for edge in self.edges)
            return
        try:
            lines = self.path.read_text(encoding="utf-8-sig").split("\n")
        except FileNotFoundError:
            raise DataMissing(f"{self.path}: there is no such file of edges (topology 'file', setting 'path')") from None
        except (OSError, ValueError) as error:
            raise DataBroken(f"{self.path} cannot be read as a text file of edges: {error}") from None
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            where = f"{self.path}:{number}"
            try:
                (fields,) = csv.reader([line.strip()], strict=True, skipinitialspace=True)
            except csv.Error as error:
                raise DataBroken(f"{where}: this is no CSV ({error}); write an edge as 'node,node'") from None
            names = [field.strip() for field in fields]
            if len(names) != 2 or not all(names):
                raise DataBroken(f"{where}: an edge is two names, 'node,node', and here stands {line.strip()[:80]!r}")
            yield where, names[0], names[1]


def seen_by(topology: Topology, nodes: Sequence[str], rounds: int, seed: int) -> dict[str, int]:
    """Count over a whole run who could see something of each node's updates, straight from the node.

    Parameters
    ----------
    topology
        Who is whose neighbour.
    nodes
        Node ids.
    rounds
        Of the run.
    seed
        Of the run.

    Returns
    -------
    dict
        Node -> how many different nodes were its neighbour in some round. With a coordinator 1 where there is any round: no node sees
        another's update, but the coordinator sees all.

    Raises
    ------
    VedetteError
        See `Topology.neighbours`.
    """
    if topology.central:
        return dict.fromkeys(nodes, min(rounds, 1))
    seen: dict[str, set[str]] = {node: set() for node in nodes}
    for first in range(0, rounds, topology.every or max(rounds, 1)):
        for node, others in topology.neighbours(nodes, first, seed).items():
            seen[node].update(others)
    return {node: len(others) for node, others in seen.items()}


def components(neighbours: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the connected components of a graph, each sorted, in sorted order: more than one if some nodes never hear of others."""
    graph = _networkx().Graph({node: list(near) for node, near in neighbours.items()})
    return sorted(tuple(sorted(part)) for part in _networkx().connected_components(graph))


def _networkx() -> Any:
    try:
        import networkx
    except ImportError:
        raise MissingExtra("graphs of peers need networkx: pip install 'vedette[train]'") from None
    return networkx


TOPOLOGIES: Registry[type[Topology]] = Registry(
    "topology",
    {
        "server": f"{__name__}:Server",
        "full": f"{__name__}:Full",
        "ring": f"{__name__}:Ring",
        "star": f"{__name__}:Star",
        "regular": f"{__name__}:Regular",
        "small-world": f"{__name__}:SmallWorld",
        "geometric": f"{__name__}:Geometric",
        "file": f"{__name__}:EdgeFile",
    },
)

AnyTopology: TypeAlias = Annotated[Topology, *named(TOPOLOGIES)]
