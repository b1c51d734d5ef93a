"""DSPy's ReAct. Arguments: route, whole or streamed, base URL of the session, model, question."""

import json
import sys
from importlib.metadata import version

import dspy

route, mode, url, name, question = sys.argv[1:]


def weather(town: str) -> str:
    """The weather of a town."""
    return f"It rains in {town}."


dspy.configure(lm=dspy.LM(f"openai/{name}", api_base=f"{url}/v1", api_key="none", cache=False))
answer = dspy.ReAct("question -> answer", tools=[weather])(question=question).answer
print(json.dumps({"text": answer, "version": version("dspy")}))
