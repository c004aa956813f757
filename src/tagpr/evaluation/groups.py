"""The parts of a table, and which system belongs to which; which published row is a system's own."""

from enum import StrEnum

from tagpr.systems.registry import SYSTEMS, TRIVIAL


class Group(StrEnum):
    """The parts of a table, in its order."""

    TRIVIAL = "Trivial baselines"  # no model
    RIVALS = "Previous methods"
    API = "API models"
    OWN = "Own systems"
    TAGPR = "TagPR"


STAGES = ("base", "labels", "sft", "guided", "final", "final-other-history")
"""What the evaluate stage compares: the checkpoints of a run."""


def group_of(system: str) -> Group:
    """The part of the table that a system (its name in the registry, `api:MODEL`, `file.py:Class`) belongs to."""
    if system in TRIVIAL:
        return Group.TRIVIAL
    if system in (*STAGES, "tagpr") or system.startswith(("w/o-", "best-of-")):
        return Group.TAGPR
    if system.startswith("api:"):
        return Group.API
    return Group.RIVALS if system in SYSTEMS else Group.OWN


def table_order(system: str) -> tuple[int, int]:
    """Sorts systems as the paper's table does: by group, then as the registry lists them."""
    place = list(SYSTEMS).index(system) if system in SYSTEMS else 0
    return list(Group).index(group_of(system)), place


def published_as(system: str) -> str:
    """The published table's name of a system; API models go by their name without the maker's."""
    return f"api:{system[4:].rpartition('/')[2].lower()}" if system.startswith("api:") else system
