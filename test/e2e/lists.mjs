// A client made with the TypeScript SDK: reads every list that a server has, page by page, and then makes the requests
// that it is told to make. Prints what it got, as JSON.
//
//     TOKEN=... REQUESTS='[{"method":"ping"}]' node lists.mjs http://127.0.0.1:8080/mcp
//
// `$task` in a request stands for the id of the last task that a tool call has started.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ResultSchema } from '@modelcontextprotocol/sdk/types.js';

const lists = [
  ['tools/list', 'tools', 'name'],
  ['prompts/list', 'prompts', 'name'],
  ['resources/list', 'resources', 'uri'],
  ['resources/templates/list', 'resourceTemplates', 'uriTemplate'],
];

const maxPages = 100;

const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]), {
  requestInit: { headers: { Authorization: `Bearer ${process.env.TOKEN}` } },
});
const client = new Client({ name: 'e2e', version: '1' });
await client.connect(transport);

const seen = { pages: {}, answers: [] };

for (const [method, member, key] of lists) {
  const pages = [];
  let cursor;
  do {
    const result = await client.request({ method, params: { cursor } }, ResultSchema);
    pages.push(result[member].map((entry) => entry[key]));
    cursor = result.nextCursor;
  } while (cursor !== undefined && pages.length < maxPages);
  seen.pages[method] = pages;
}

let task = '';
for (const text of JSON.parse(process.env.REQUESTS)) {
  const request = JSON.parse(JSON.stringify(text).replaceAll('$task', task));
  try {
    const result = await client.request(request, ResultSchema);
    task = result.task?.taskId ?? task;
    seen.answers.push({ result });
  } catch ({ code, message }) {
    seen.answers.push({ code, message: message.replaceAll(task || '$task', '$task') });
  }
}

await client.close();
console.log(JSON.stringify(seen));
