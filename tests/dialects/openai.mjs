// Streams a response with OpenAI's client for Node, then resumes it from an event in its middle.
import OpenAI from "openai";

const [url, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });

const created = await client.responses.create({ model: "m", input: "Count", background: true });
const read = async (options) => {
  const events = [];
  for await (const event of await client.responses.retrieve(created.id, { stream: true, ...options })) {
    events.push(event);
  }
  return events;
};
const whole = await read({});
const rest = await read({ starting_after: 4 });
const stream = client.responses.stream({ model: "m", input: "Again", previous_response_id: created.id });
const final = await stream.finalResponse();
let missing = "";
try {
  await client.responses.retrieve(`resp_${"0".repeat(32)}`);
} catch (error) {
  missing = error instanceof OpenAI.NotFoundError ? error.code : String(error);
}
console.log(JSON.stringify({ whole, rest, final: final.output_text, missing }));
