"""Kimi K2's models."""

from tests.materials import KIMI_K2, KIMI_K2_THINKING, KIMI_K25
from tests.renderers.subjects.subject import Limits, Subject

K2 = "kimi-k2"
K2_0905 = "kimi-k2, 0905"
LINEAR = "kimi-linear"
K2_THINKING = "kimi-k2-thinking"
K25 = "kimi-k2.5"
K25_SILENT = "kimi-k2.5, thinking off"
K26 = "kimi-k2.6"
K26_PRESERVING = "kimi-k2.6, preserving thoughts"
K27 = "kimi-k2.7-code"
THOUGHTFUL = (K2_THINKING, K25, K25_SILENT, K26, K26_PRESERVING, K27)

LIMITS = Limits(call_id=lambda name, number: f"functions.{name}:{number}")
_SILENT = {"thinking": False}
_PRESERVING = {"preserve_thinking": True}

SUBJECTS = (
    Subject(K2, "kimi-k2", KIMI_K2, "moonshotai-Kimi-K2-Instruct", limits=LIMITS),
    Subject(K2_0905, "kimi-k2", KIMI_K2, "moonshotai-Kimi-K2-Instruct-0905", limits=LIMITS),
    Subject(LINEAR, "kimi-linear", KIMI_K2, "moonshotai-Kimi-Linear-48B-A3B-Instruct", limits=LIMITS),
    Subject(K2_THINKING, "kimi-k2-thinking", KIMI_K2_THINKING, "moonshotai-Kimi-K2-Thinking", limits=LIMITS),
    Subject(K25, "kimi-k2.5", KIMI_K25, "moonshotai-Kimi-K2.5", limits=LIMITS),
    Subject(K25_SILENT, "kimi-k2.5", KIMI_K25, "moonshotai-Kimi-K2.5", _SILENT, _SILENT, LIMITS),
    Subject(K26, "kimi-k2.5", KIMI_K25, "moonshotai-Kimi-K2.6", limits=LIMITS),
    Subject(K26_PRESERVING, "kimi-k2.5", KIMI_K25, "moonshotai-Kimi-K2.6", _PRESERVING, _PRESERVING, LIMITS),
    Subject(K27, "kimi-k2.7-code", KIMI_K25, "moonshotai-Kimi-K2.7-Code", limits=LIMITS),
)
