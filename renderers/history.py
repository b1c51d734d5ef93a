"""The treatment of a conversation's earlier tokens."""

from enum import StrEnum


class History(StrEnum):
    """Ways to treat tokens that the model's own template would render differently later on."""

    EXACT = "exact"
    """Tokens that the model sampled stay as it sampled them."""
    TEMPLATE = "template"
    """The template's rendering counts (old thoughts stripped, …)."""
