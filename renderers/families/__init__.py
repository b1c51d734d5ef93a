"""One page for each family of formats; :data:`FAMILIES` names them."""

from tickertape.renderers.families.chatml import ChatML
from tickertape.renderers.families.deepseek_v3 import (
    DeepSeekR1,
    DeepSeekR1Distill,
    DeepSeekR1DistillUnopened,
    DeepSeekR1Of0528,
    DeepSeekV3,
    PerplexityR1,
)
from tickertape.renderers.families.deepseek_v3_1 import DeepSeekV31, DeepSeekV31EmptyThought
from tickertape.renderers.families.deepseek_v3_2 import DeepSeekV4, DeepSeekV32
from tickertape.renderers.families.deepseek_v4_encoder import DeepSeekV4Encoder, DeepSeekV4Unsloth
from tickertape.renderers.families.gemma3 import Gemma3
from tickertape.renderers.families.gemma4 import Gemma4
from tickertape.renderers.families.glm import Glm45, Glm47, Glm51, Glm52
from tickertape.renderers.families.gpt_oss import GptOss, GptOssSafeguard, GptOssUnsloth
from tickertape.renderers.families.granite4 import Granite40, Granite41
from tickertape.renderers.families.hermes import Hermes2Pro, Hermes3
from tickertape.renderers.families.hermes4 import Hermes4, Hermes4Llama
from tickertape.renderers.families.kimi import KimiK2, KimiK2Thinking, KimiK25, KimiK27Code, KimiLinear
from tickertape.renderers.families.llama3 import Llama3, Llama31
from tickertape.renderers.families.minimax_m2 import MiniMaxM2
from tickertape.renderers.families.mistral import MistralV3, MistralV3Tekken, MistralV7, MistralV11
from tickertape.renderers.families.mistral_v13 import MistralSmall4, MistralV13, MistralV13Reasoning
from tickertape.renderers.families.nemotron3 import Nemotron3, Nemotron3Ultra
from tickertape.renderers.families.qwen2_5 import Qwen25
from tickertape.renderers.families.qwen3 import Qwen3, Qwen3Instruct2507, Qwen3Thinking2507, Qwen3VLInstruct
from tickertape.renderers.families.qwen3_5 import Qwen35, Qwen36
from tickertape.renderers.families.qwen3_coder import Qwen3Coder, Qwen3CoderNext
from tickertape.renderers.families.seed_oss import SeedOSS
from tickertape.renderers.families.smollm3 import SmolLM3, SmolLM3Undated
from tickertape.renderers.format import Format

_PAGES: tuple[type[Format], ...] = (
    *(Qwen36, Qwen35, Qwen3Coder, Qwen3CoderNext, Qwen3VLInstruct, Qwen3, Qwen3Thinking2507, Qwen3Instruct2507, Qwen25),
    *(Hermes4, Hermes4Llama, Hermes2Pro, Hermes3, SmolLM3, SmolLM3Undated),
    *(Glm45, Glm47, Glm51, Glm52, MiniMaxM2, SeedOSS, Nemotron3, Nemotron3Ultra, Granite40, Granite41),
    *(GptOss, GptOssSafeguard, GptOssUnsloth),
    *(DeepSeekV4Encoder, DeepSeekV4Unsloth, DeepSeekV4, DeepSeekV32, DeepSeekV31, DeepSeekV31EmptyThought),
    *(DeepSeekR1Of0528, DeepSeekR1, PerplexityR1, DeepSeekR1Distill, DeepSeekR1DistillUnopened, DeepSeekV3),
    *(KimiK27Code, KimiK25, KimiK2Thinking, KimiK2, KimiLinear),
    *(Llama31, Llama3, Gemma4, Gemma3),
    *(MistralSmall4, MistralV13Reasoning, MistralV13, MistralV11, MistralV7, MistralV3, MistralV3Tekken),
    ChatML,
)

#: Name to family, in the order in which evidence is looked for: special before general.
FAMILIES: dict[str, type[Format]] = {family.name: family for family in _PAGES}
