// A client of protocol version 2024-11-05, made with the TypeScript SDK: its messages go where the stream says. Prints
// what it got, as JSON.
//
//     TOKEN=... node legacy.mjs http://127.0.0.1:8080/mcp
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';

const seen = { posted: [] };
const headers = { Authorization: `Bearer ${process.env.TOKEN}` };

async function notingFetch(url, init) {
  if (init?.method === 'POST') {
    seen.posted.push(String(url));
  }
  const all = new Headers(init?.headers);
  all.set('Authorization', headers.Authorization); // the stream's request comes without
  return fetch(url, { ...init, headers: all });
}

async function refusal(promise) {
  try {
    return { result: await promise };
  } catch ({ code, message }) {
    return { code, message };
  }
}

const transport = new SSEClientTransport(new URL(process.argv[2]), { fetch: notingFetch, requestInit: { headers } });
const client = new Client({ name: 'e2e', version: '1' });
await client.connect(transport);
seen.server = client.getServerVersion().name;
seen.tools = (await client.listTools()).tools.map(({ name }) => name);
seen.echo = (await client.callTool({ name: 'echo', arguments: { message: 'hi' } })).content[0].text;
seen.hidden = await refusal(client.callTool({ name: 'get-env', arguments: {} }));

// What the client got is of use to nobody else.
const endpoint = seen.posted[0];
const ping = { jsonrpc: '2.0', id: 'x', method: 'ping' };
async function statusFor(url, token) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
    body: JSON.stringify(ping),
  });
  await response.text();
  return response.status;
}
seen.own = await statusFor(endpoint, process.env.TOKEN);
seen.foreign = await statusFor(endpoint, process.env.OTHER_TOKEN);
seen.broken = await statusFor(endpoint.slice(0, -1), process.env.TOKEN);
seen.unauthenticated = await statusFor(endpoint, 'x');

await client.close();
console.log(JSON.stringify(seen));
