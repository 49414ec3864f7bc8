// A client made with the TypeScript SDK: uses what the reference server has to offer over stdin and stdout, and prints
// what it got, as JSON.
//
//     TOKEN=... node stdio.mjs http://127.0.0.1:8080/mcp
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), {
  requestInit: { headers: { Authorization: `Bearer ${process.env.TOKEN}` } },
});
const client = new Client({ name: 'e2e', version: '1' }, { capabilities: { sampling: {} } });
client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => ({
  model: 'none', role: 'assistant', content: { type: 'text', text: `heard: ${params.messages[0].content.text}` },
}));

async function refusal(promise) {
  try {
    return { result: await promise };
  } catch ({ code, message }) {
    return { code, message };
  }
}

await client.connect(transport);
const seen = { session: transport.sessionId !== undefined, server: client.getServerVersion().name };
seen.environment = JSON.parse((await client.callTool({ name: 'get-env' })).content[0].text);
seen.hiddenTool = await refusal(client.callTool({ name: 'echo', arguments: { message: 'hi' } }));

const { resources } = await client.listResources();
seen.resources = resources.map(({ uri }) => uri);
seen.hiddenResource = await refusal(client.readResource({ uri: 'demo://resource/static/document/startup.md' }));
seen.resource = (await client.readResource({ uri: 'demo://resource/static/document/features.md' })).contents[0].text.length > 0;

// two at a time, each with its own progress
const slow = async (steps) => {
  const progress = [];
  await client.callTool({ name: 'trigger-long-running-operation', arguments: { duration: 0.2, steps } }, undefined, {
    onprogress: ({ progress: step, total }) => progress.push(`${step}/${total}`),
  });
  return progress;
};
seen.progress = await Promise.all([slow(2), slow(3)]);

// the server asks the client
const asked = await client.callTool({ name: 'trigger-sampling-request', arguments: { prompt: 'Zoë?' } });
seen.sampled = asked.content[0].text;

await transport.terminateSession();
await client.close();
console.log(JSON.stringify(seen));
