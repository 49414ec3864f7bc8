// A client made with the TypeScript SDK: uses what the demo server has to offer and prints what it got, as JSON.
//
//     TOKEN=... node client.mjs http://127.0.0.1:8080/mcp
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';

const seen = { statuses: {} };

let streamIsOpen;
const stream = new Promise((resolve) => (streamIsOpen = resolve));

// Notes which requests were made, and tells when the stream of a GET is there.
async function notingFetch(url, init) {
  const response = await fetch(url, init);
  const { method } = init;
  (seen.statuses[method] ??= []).push(response.status);
  if (method === 'GET') {
    streamIsOpen(response.headers.get('content-type'));
  }
  return response;
}

async function refusal(promise) {
  try {
    return { result: await promise };
  } catch ({ code, message }) {
    return { code, message };
  }
}

const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), {
  fetch: notingFetch,
  requestInit: { headers: { Authorization: `Bearer ${process.env.TOKEN}` } },
});
const client = new Client({ name: 'e2e', version: '1' });
let updated;
const update = new Promise((resolve) => (updated = resolve));
client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => updated(params.uri));

await client.connect(transport);
seen.server = client.getServerVersion().name;
seen.session = transport.sessionId !== undefined;
seen.stream = await stream;

seen.tools = (await client.listTools()).tools.map(({ name }) => name);
seen.me = (await client.callTool({ name: 'get_me' })).content[0].text;
seen.hiddenTool = await refusal(client.callTool({ name: 'delete_repo', arguments: { repo: 'acme/api' } }));

seen.prompts = (await client.listPrompts()).prompts.map(({ name }) => name);
const { messages } = await client.getPrompt({ name: 'greet', arguments: { name: 'Zoë' } });
seen.prompt = messages[0].content.text;

seen.resources = (await client.listResources()).resources.map(({ uri }) => uri);
seen.resource = (await client.readResource({ uri: 'docs://public/handbook' })).contents[0].text;
seen.hiddenResource = await refusal(client.readResource({ uri: 'docs://internal/salaries' }));

await client.subscribeResource({ uri: 'repo://acme/new' });
await client.callTool({ name: 'create_repo', arguments: { repo: 'acme/new' } });
seen.update = await update;

await transport.terminateSession();
await client.close();
console.log(JSON.stringify(seen));
