// The Vercel AI SDK. Arguments: route, whole or streamed, base URL of the session, model, question.
import { readFileSync } from "node:fs";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [route, mode, url, name, question] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const model = {
  responses: () => openai(name),
  chat: () => openai.chat(name),
  messages: () => createAnthropic({ baseURL: `${url}/v1`, apiKey: "none" })(name),
  compatible: () => createOpenAICompatible({ name: "tickertape", baseURL: `${url}/v1`, apiKey: "none" })(name),
}[route]();
const weather = tool({
  description: "The weather of a town.",
  inputSchema: z.object({ town: z.string() }),
  execute: async ({ town }) => `It rains in ${town}.`,
});
const asked = { model, tools: { weather }, prompt: question, stopWhen: (stepCountIs ?? isStepCount)(40), maxRetries: 0 };
let text;
if (mode === "streamed") {
  const failures = [];
  const result = streamText({ ...asked, onError: ({ error }) => failures.push(error) });
  for await (const _ of result.textStream);
  if (failures.length) throw failures[0];
  text = await result.text;
} else {
  text = (await generateText(asked)).text;
}
const version = JSON.parse(readFileSync(new URL("node_modules/ai/package.json", import.meta.url))).version;
console.log(JSON.stringify({ text, version }));
