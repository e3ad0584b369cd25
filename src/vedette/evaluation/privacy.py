"""What a federation gave away of its nodes: what left them, how it was hidden, and what that comes to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from vedette.runtimes.base import Outcome, Plan, stages_of
from vedette.runtimes.privacy import cost_of
from vedette.strategies.base import Strategy
from vedette.strategies.calibrate import Calibrate
from vedette.strategies.chain.chained import plain
from vedette.strategies.chain.clip import Clip
from vedette.strategies.chain.compress import Compress
from vedette.strategies.chain.mask import Mask
from vedette.strategies.chain.privacy import noise_of, releases_of
from vedette.strategies.clustered import Clustered
from vedette.strategies.prepare import Prepare
from vedette.strategies.private import PrivateCalibrate, PrivatePrepare
from vedette.training.dpsgd import SPENT

__all__ = ["privacy_of"]


def privacy_of(plan: Plan, outcome: Outcome, nodes: int) -> dict[str, Any] | None:
    """Say what left the nodes in a run, stage by stage; None where nothing was learned together.

    Parameters
    ----------
    plan, outcome
        Of the run.
    nodes
        How many took part.

    Returns
    -------
    dict
        ``central``: whether a coordinator heard all; ``nodes``; ``budget`` (None without one), ``delta``; ``epsilon`` of all together
        (None: no bound); ``most_auc``: of any attack that asks whether a node took part (None: not known, because nodes were drawn);
        ``spent``: stage, round and epsilon so far; ``clustered``: whether nodes were in groups; ``rows``: what DP-SGD comes to for each row
        of a node, ``least`` and ``most`` epsilon of any node, ``delta``, ``secret`` (None: nodes trained without); ``stages``: each with
        ``tells`` (what by name), ``sent`` and ``received`` (bytes a node and round; None: among those of the rounds), ``noise`` (who adds
        it: ``"coordinator"``, ``"node"``, ``"shares"``; None: nobody), ``multiplier``, ``secret``, ``clip``, ``masked``, ``packed``.
    """
    _, stages = stages_of(plan)
    strategies = [plain(stage.strategy) for stage in stages]
    if not any(entry.sent for entry in outcome.history if entry.stage == "rounds"):
        return None
    privacy = next((strategy.privacy for strategy in strategies if strategy.privacy is not None), None)
    delta = 1e-5 if privacy is None else privacy.delta
    noised = plan["trainer"]["name"] == "dp-sgd"
    epsilon = cost_of(strategies, delta)
    found = []
    for stage, strategy in zip(stages, strategies, strict=True):
        entries = [entry for entry in outcome.history if entry.stage == stage.name]
        taking = max(nodes * strategy.sample * len(entries), 1.0)
        sent, received = (sum(getattr(entry, way) for entry in entries) / taking for way in ("sent", "received"))
        if isinstance(strategy, Clustered) and (groups := _groups(strategy)):
            found.append(groups)
        found.append({"stage": stage.name, "rounds": len(entries), "sent": sent, "received": received, **_hidden(strategy, noised)})
    return {
        "central": plan["topology"]["name"] == "server",
        "nodes": nodes,
        "budget": None if privacy is None else privacy.epsilon,
        "delta": delta,
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        "most_auc": _most_auc(strategies) if math.isfinite(epsilon) else None,
        "spent": [[entry.stage, entry.number, entry.epsilon] for entry in outcome.history if entry.epsilon is not None],
        "clustered": any(isinstance(strategy, Clustered) for strategy in strategies),
        "rows": _rows(plan["trainer"], outcome) if noised else None,
        "stages": found,
    }


def _most_auc(strategies: Iterable[Strategy]) -> float | None:
    """Bound what any attack on a node comes to: telling two Gaussians apart (Dong et al. 2022, corollary 2.13), as an area."""
    releases = [release for strategy in strategies for release in releases_of(strategy)]
    if any(release.draw != "all" for release in releases):
        return None
    return NormalDist().cdf(math.sqrt(sum(release.times / release.noise**2 for release in releases) / 2))


def _rows(trainer: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """Say what DP-SGD comes to for each row of a node; without a bound if some node has none."""
    spent = [float(np.asarray(memory[SPENT])) if SPENT in memory else None for memory in outcome.memories.values()]
    known = [epsilon for epsilon in spent if epsilon is not None]
    bounded = bool(known) and len(known) == len(spent)
    return {
        "least": min(known) if bounded else None,
        "most": max(known) if bounded else None,
        "delta": trainer["delta"],
        "secret": trainer["secret"],
    }


def _groups(strategy: Clustered) -> dict[str, Any] | None:
    """Say what nodes tell to be grouped by; None if nothing."""
    if not strategy.beside:
        return None
    (release,), noised = strategy.beside, bool(strategy.beside[0].noise)
    return {
        "stage": "groups",
        "rounds": release.times,
        "sent": None,
        "received": None,
        "tells": [f"group-{strategy.by.name}"],
        "noise": "node" if noised else None,
        "multiplier": release.noise if noised else None,
        "secret": not strategy.known_noise if noised else None,
        "clip": 1.0 if noised else None,
        "adapts": False,
        "masked": False,
        "packed": None,
    }


def _hidden(strategy: Strategy, noised: bool) -> dict[str, Any]:
    """Say what a stage's nodes tell, and what is done to it; `noised`: where they train by DP-SGD."""
    noise, clip, mask, packed = noise_of(strategy), *(_link(strategy, kind) for kind in (Clip, Mask, Compress))
    tells = _tells(strategy, noised)
    if clip is not None and clip.quantile is not None:
        tells = [*tells, "clipped"]
    multiplier = None if noise is None or not noise.multiplier else noise.multiplier
    return {
        "tells": tells,
        "noise": None if multiplier is None or noise is None else noise.added,
        "multiplier": multiplier,
        "secret": None if noise is None else noise.secret,
        "clip": None if clip is None else clip.norm,
        "adapts": clip is not None and clip.quantile is not None,
        "masked": mask is not None,
        "packed": None if packed is None else packed.model_dump(mode="json"),
    }


def _tells(strategy: Strategy, noised: bool) -> list[str]:
    """Name what a node sends."""
    if isinstance(strategy, PrivatePrepare):
        return ["scaling-votes"]
    if isinstance(strategy, PrivateCalibrate):
        return [*(["residual-sizes"] if strategy.residuals == "moments" else []), "level-votes"]
    if isinstance(strategy, Prepare):
        return ["scaling"] if strategy.scaling.fit == "federated" else []
    if isinstance(strategy, Calibrate):
        known = [] if strategy.residuals in ("none", "inputs") else ["residuals"]
        return [*known, "scores"] if strategy.fit == "federated" else []
    names = ["norms" if channel.holds == "buffers" else "weights" for channel in strategy.channels]
    if strategy.shares_rows:
        names.append("points")
    # Noise makes all weigh the same, and lets nodes say nothing else; a mask lets nobody see what one of them says.
    silent = any(getattr(link, "equal", False) or isinstance(link, Mask) for link in strategy.chain)
    return list(dict.fromkeys([*(names or ["model"]), *([] if silent else ["rows" if noised else "facts"])]))


def _link(strategy: Strategy, kind: type[Any]) -> Any:
    return next((link for link in strategy.chain if isinstance(link, kind)), None)
