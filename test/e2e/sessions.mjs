// A client made with the TypeScript SDK: one session with server-everything, used again each time a line comes in from
// standard input, until there are no more. Prints what it got as JSON, a line each time.
//
//     TOKEN=... node sessions.mjs http://127.0.0.1:8080/mcp
import { createInterface } from 'node:readline';

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), {
  requestInit: { headers: { Authorization: `Bearer ${process.env.TOKEN}` } },
});
const client = new Client(
  { name: 'e2e', version: '1' },
  { capabilities: { sampling: {}, elicitation: {} } },
);
client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: { name: 'Zoë' } }));
client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => ({
  role: 'assistant',
  model: 'none',
  content: { type: 'text', text: `an answer to: ${params.messages[0].content.text}` },
}));

async function call(name, args = {}, options = undefined) {
  const { content } = await client.callTool({ name, arguments: args }, undefined, options);
  return content.map(({ text }) => text).join('\n');
}

await client.connect(transport);
const { sessionId } = transport;
for await (const line of createInterface({ input: process.stdin })) {
  const progress = [];
  const seen = {
    echo: await call('echo', { message: line }),
    long: await call('trigger-long-running-operation', { duration: 0.3, steps: 3 }, {
      onprogress: ({ progress: step }) => progress.push(step),
    }),
    elicitation: await call('trigger-elicitation-request'),
    sampling: await call('trigger-sampling-request', { prompt: line, maxTokens: 10 }),
    sameSession: transport.sessionId === sessionId,
    progress,
  };
  console.log(JSON.stringify(seen));
}
await transport.terminateSession();
await client.close();
