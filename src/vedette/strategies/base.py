"""What a strategy is: three pure functions over arrays, described as data to whoever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
from pydantic import Field

from vedette.message import Array, Channel, Memory, Message, Vector
from vedette.registry import Registry
from vedette.settings import Settings, named
from vedette.strategies.budget import Privacy
from vedette.training.accounting import Release
from vedette.training.task import Done, Work

__all__ = ["LINKS", "STRATEGIES", "AnyLink", "First", "Identity", "Reply", "Strategy", "Turn", "View"]

STRATEGIES: Registry[type[Strategy]] = Registry(
    "strategy",
    {
        "local": "vedette.strategies.local:Local",
        "fedavg": "vedette.strategies.fedavg:FedAvg",
        "fedprox": "vedette.strategies.fedprox:FedProx",
        "fedkd": "vedette.strategies.fedkd:FedKd",
        "fedtl": "vedette.strategies.fedtl:FedTl",
        "mtad-fl": "vedette.strategies.mtad_fl:MtadFl",
        "gossip-fedavg": "vedette.strategies.gossip:GossipFedAvg",
        "p2pk-smote": "vedette.strategies.p2pk_smote:P2pkSmote",
        "parameter-server": "vedette.strategies.parameter_server:ParameterServer",
        "clustered": "vedette.strategies.clustered:Clustered",
        "merge": "vedette.strategies.merge:Merge",
        "prepare": "vedette.strategies.prepare:Prepare",
        "calibrate": "vedette.strategies.calibrate:Calibrate",
        "private-prepare": "vedette.strategies.private:PrivatePrepare",
        "private-calibrate": "vedette.strategies.private:PrivateCalibrate",
    },
)


LINKS: Registry[type[Settings]] = Registry(
    "link",
    {
        "clip": "vedette.strategies.chain.clip:Clip",
        "noise": "vedette.strategies.chain.noise:Noise",
        "compress": "vedette.strategies.chain.compress:Compress",
        "mask": "vedette.strategies.chain.mask:Mask",
    },
)
"""Links of the chain: each a `vedette.strategies.chain.link.Link`."""

AnyLink: TypeAlias = Annotated[Settings, *named(LINKS)]


class First(NamedTuple):
    """What a node knows of a channel before anything was learned.

    Attributes
    ----------
    vector
        The first weights.
    shapes
        Of the arrays it consists of, in order.
    """

    vector: Vector
    shapes: Sequence[tuple[int, ...]]


class Identity(Protocol):
    """Who a party is to others that hear of it through the exchange."""

    def proof(self, said: bytes) -> bytes:
        """Return what shows others that this party said something."""

    def objection(self, name: str, said: bytes, proof: bytes) -> str | None:
        """Say why a proof does not show that a party said something, or None."""


class Turn(NamedTuple):
    """Where a run stands.

    Attributes
    ----------
    round
        From 0.
    phase
        One of the strategy's phases.
    receivers
        The nodes that the exchange answers.
    staleness
        Rounds by which a node's answer is late; empty when none is.
    rng
        Makes a random stream, the same each time: the node's own in `work` and in `answer`, the exchange's own in `exchange`.
    node
        Whose turn it is; "" for the exchange.
    seed
        Of the run: what all parties know.
    candidates
        How many nodes there were for a round, of whom those that take part were drawn.
    first
        Returns the first weights of the node's networks, by channel, as they are drawn from the seed; a node alone knows them.
    identity
        Whose turn it is, to others; None where nobody has a certificate.
    """

    round: int
    phase: str
    receivers: tuple[str, ...]
    staleness: Mapping[str, int]
    rng: Callable[[], np.random.Generator]
    node: str = ""
    seed: int = 0
    candidates: int = 0
    first: Callable[[], Mapping[str, First]] = dict
    identity: Identity | None = None


class View(Protocol):
    """The answers of a quorum, or of a peer's neighbourhood with itself."""

    @property
    def nodes(self) -> Sequence[str]:
        """Who answered, sorted."""

    @property
    def groups(self) -> Mapping[str, View]:
        """Views of the groups formed by the last reply."""

    def mean(self, channel: str, weight: str = "rows") -> Vector:
        """Return the mean of a channel, weighted by one of the channel's weights."""

    def each(self, channel: str) -> tuple[Sequence[str], Array]:
        """Return nodes and [nodes, parameters] float32 of a channel that is gathered."""

    def layout(self, channel: str) -> str:
        """Return the layout of a channel's vectors."""

    def facts(self, name: str) -> Mapping[str, float | str]:
        """Return one fact of every node that told it."""

    def told(self, prefix: str) -> Sequence[str]:
        """Return the names of the facts that begin like this, sorted."""

    def tables(self, name: str) -> Mapping[str, Array]:
        """Return one table of every node that sent it."""


class Reply(NamedTuple):
    """What an exchange gives back.

    Attributes
    ----------
    messages
        By node; the key ``"*"`` stands for every node without one of its own.
    memory
        The exchange's own state for the next turn; the last one stays in the result.
    groups
        Node -> group, for the next turn's `View.groups`.

    What is None stays as it was: a phase that only forms groups does not take the model away.
    """

    messages: Mapping[str, Message] | None = None
    memory: Memory | None = None
    groups: Mapping[str, str] | None = None


class Strategy(Settings, ABC):
    """Base of strategies: how nodes learn together, as pure functions of what they are given.

    A round passes through `phases`; in each, every node does `work` and sends its `answer`, and `exchange` says who gets what next.
    After the last round come the `closing` phases, in which nodes take over what they received last; nothing is exchanged there.

    Parameters
    ----------
    rounds
        How many.
    sample
        Share of the nodes that take part in a round, drawn anew for each, all with the same chance; at least one node. The others keep what
        they had.
    draw
        How these are drawn: ``"fixed"``, always as many; ``"poisson"``, each node by itself.
    chain
        What is done to all that nodes send in a round before it leaves them, link after link (`vedette.strategies.chain`).
    privacy
        What all that nodes tell in a run may cost; the chain needs noise then.
    """

    relayed: ClassVar[bool] = False
    """Whether peers pass answers on until all that are connected have them, so that all come to the same."""
    labelled: ClassVar[bool] = False
    """Whether only detectors that learn from labels can be trained by it."""
    shares_rows: ClassVar[bool] = False
    """Whether scaled rows travel, so that all nodes must scale alike."""
    begins_anew: ClassVar[bool] = False
    """Whether every round begins with networks that a coordinator sent, so that nodes need not keep their own."""
    alike: ClassVar[bool] = False
    """Whether, of these, all nodes do the same work in a round, and answer with what came of it and nothing else."""
    common: ClassVar[bool] = False
    """Whether a coordinator sends all nodes the same, and averages what they make of it."""
    bounded: ClassVar[bool] = False
    """Whether what nodes send on its channels is bounded as it is: no network, but a vector of length 1 at most."""
    shards: ClassVar[bool] = False
    """Whether nodes hold shards of one data set, so that what comes of them is compared with one machine's."""

    rounds: int = Field(default=10, ge=0)
    sample: float = Field(default=1.0, gt=0, le=1)
    draw: Literal["fixed", "poisson"] = "fixed"
    chain: tuple[AnyLink, ...] = ()
    privacy: Privacy | None = None

    @property
    def phases(self) -> tuple[str, ...]:
        """What each round passes through."""
        return ("train",)

    @property
    def closing(self) -> tuple[str, ...]:
        """What comes once, after the last round."""
        return ()

    @property
    def untrained(self) -> tuple[str, ...]:
        """Roles of networks that stay as they begin, so that they cannot be the ones that score."""
        return ()

    @property
    def residual_prior(self) -> float | None:
        """As how many rows residuals of all count where each group weighs them by what is usual in it; None: all weigh them alike."""
        return None

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The parts of networks that are exchanged."""
        return ()

    @property
    def laps(self) -> int:
        """In how many parts the course of a run is told: its rounds, or epochs where a round is less than a pass over the rows."""
        return self.rounds

    @property
    def arrivals(self) -> Sequence[str] | None:
        """Whose answers are taken in one by one, a round each: in this order, or, if none is said, as they come or are drawn.

        None: a round hears all who take part.
        """
        return None

    @property
    def core(self) -> Strategy:
        """What averages that the chain is put around: this strategy, or what each group of its nodes does."""
        return self

    def with_core(self, core: Strategy) -> Strategy:
        """Return this strategy with another core."""
        return core

    @property
    def beside(self) -> Sequence[Release]:
        """What nodes tell in all rounds besides what goes through the chain, with the noise that they put on it; 0: none."""
        return ()

    @property
    def known_noise(self) -> bool:
        """Whether noise is drawn from the run's seed, so that others can draw it too."""
        return not all(getattr(link, "secret", True) for link in self.chain)

    def noised(self, multiplier: float, secret: bool) -> Self:
        """Return the strategy with noise on what it has nodes tell besides, unless it says how much.

        Parameters
        ----------
        multiplier
            Standard deviation, over the length of a node's part, if it were told once.
        secret
            Whether the noise comes from the operating system.
        """
        return self

    def over(self, rows: Sequence[int], batch: int) -> Self:
        """Return the strategy with what depends on the data worked out.

        Parameters
        ----------
        rows
            Training rows (windows) of each node.
        batch
            Rows of a step, as the detector has it.
        """
        return self

    def takes_part(self, nodes: Sequence[str], rng: Callable[[], np.random.Generator]) -> Sequence[str]:
        """Return the nodes that take part in a round, in their order."""
        if self.sample == 1:
            return nodes
        if self.draw == "poisson":
            generator, taken = rng(), np.zeros(len(nodes), dtype=bool)
            # Without anybody there is no round.
            while not taken.any():
                taken = generator.random(len(nodes)) < self.sample
            return [node for node, takes in zip(nodes, taken.tolist(), strict=True) if takes]
        drawn = rng().choice(len(nodes), max(1, round(self.sample * len(nodes))), replace=False)
        return [nodes[place] for place in np.sort(drawn)]

    def span(self, turn: Turn) -> tuple[float, float]:
        """Return where in the whole training this round begins and ends, for `Task.span`."""
        return turn.round / max(self.rounds, 1), min((turn.round + 1) / max(self.rounds, 1), 1.0)

    @abstractmethod
    def work(self, turn: Turn, inbox: Message, mine: Memory) -> Work:
        """Say what a node shall train and ask, given what it received and its own state."""

    @abstractmethod
    def answer(self, turn: Turn, done: Done, mine: Memory) -> tuple[Message, Memory]:
        """Say what a node sends and keeps, given what came of its work."""

    @abstractmethod
    def exchange(self, turn: Turn, view: View, ours: Memory) -> Reply:
        """Say who gets what next; run by a coordinator, or by each peer over its neighbourhood."""
