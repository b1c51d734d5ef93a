"""One page for each family of formats; :data:`FAMILIES` names them."""

from tickertape.renderers.families.chatml import ChatML
from tickertape.renderers.families.qwen2_5 import Qwen25
from tickertape.renderers.families.qwen3 import Qwen3, Qwen3Instruct2507, Qwen3Thinking2507
from tickertape.renderers.families.qwen3_5 import Qwen35, Qwen36
from tickertape.renderers.families.qwen3_coder import Qwen3Coder, Qwen3CoderNext
from tickertape.renderers.format import Format

#: Name to family, in the order in which evidence is looked for: special before general.
FAMILIES: dict[str, type[Format]] = {
    family.name: family
    for family in (
        Qwen36,
        Qwen35,
        Qwen3Coder,
        Qwen3CoderNext,
        Qwen3,
        Qwen3Thinking2507,
        Qwen3Instruct2507,
        Qwen25,
        ChatML,
    )
}
