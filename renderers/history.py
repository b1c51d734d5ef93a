"""What becomes of a conversation's earlier tokens."""

from enum import StrEnum


class History(StrEnum):
    """What becomes of tokens that the model's own template would render differently later on."""

    EXACT = "exact"
    """What the model sampled stays as it sampled it."""
    TEMPLATE = "template"
    """What the template says counts (old thoughts stripped, …)."""
