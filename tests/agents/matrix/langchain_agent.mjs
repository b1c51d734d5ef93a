// LangChain.js, createAgent. Arguments: route, whole or streamed, base URL of the session, model, question.
import { readFileSync } from "node:fs";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent, tool } from "langchain";
import { z } from "zod";

const [route, mode, url, name, question] = process.argv.slice(2);
const model = new ChatOpenAI({
  model: name,
  apiKey: "none",
  configuration: { baseURL: `${url}/v1` },
  useResponsesApi: route === "responses",
  maxRetries: 0,
});
const weather = tool(({ town }) => `It rains in ${town}.`, {
  name: "weather",
  description: "The weather of a town.",
  schema: z.object({ town: z.string() }),
});
const agent = createAgent({ model, tools: [weather] });
const asked = { messages: [{ role: "user", content: question }] };
let text = "";
if (mode === "streamed") {
  // ChatOpenAI's own `streaming: true` fetches a vocabulary from the internet, to count tokens.
  const stream = await agent.stream(asked, { recursionLimit: 100, streamMode: "messages" });
  for await (const [message] of stream) if (message.type === "ai") text += message.text;
} else {
  text = (await agent.invoke(asked, { recursionLimit: 100 })).messages.at(-1).text;
}
const version = JSON.parse(readFileSync(new URL("node_modules/langchain/package.json", import.meta.url))).version;
console.log(JSON.stringify({ text, version }));
