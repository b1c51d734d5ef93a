// The loop of Anthropic's SDK for JavaScript. Arguments: route, whole or streamed, base URL, model, question.
import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";

const [, mode, url, name, question] = process.argv.slice(2);
const client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
const weather = betaTool({
  name: "weather",
  description: "The weather of a town.",
  inputSchema: { type: "object", properties: { town: { type: "string" } }, required: ["town"] },
  run: ({ town }) => `It rains in ${town}.`,
});
const asked = { model: name, max_tokens: 500, messages: [{ role: "user", content: question }], tools: [weather] };
const runner = client.beta.messages.toolRunner({ ...asked, stream: mode === "streamed" });
const last = await runner.runUntilDone();
const text = last.content.map((block) => block.text ?? "").join("");
const version = JSON.parse(readFileSync(new URL("node_modules/@anthropic-ai/sdk/package.json", import.meta.url))).version;
console.log(JSON.stringify({ text, version }));
