// Opens a web page in Chromium and has it use an MCP server with fetch, as a client in a page does:
//
//     TOKEN=... node page.mjs http://127.0.0.1:9000/ http://127.0.0.1:8080/mcp
//
// Prints what the page could see, as JSON.
import { withTab } from './chromium.mjs';

const [page, gateway] = process.argv.slice(2);

// Runs in the page.
async function use({ gateway, token }) {
  const seen = {};
  const headers = {
    Accept: 'application/json, text/event-stream',
    'Content-Type': 'application/json',
  };
  const exposed = ['Mcp-Session-Id', 'WWW-Authenticate'];

  // One request: its status, body and headers as far as the page may know, or why it knows nothing.
  async function attempt(name, url, init) {
    try {
      const response = await fetch(url, init);
      seen[name] = { status: response.status, type: response.type, body: await response.text(), headers: {} };
      for (const header of exposed) {
        seen[name].headers[header] = response.headers.get(header) ?? '';
      }
    } catch (error) {
      seen[name] = { failure: String(error) };
    }
    return seen[name];
  }
  let id = 0;
  const post = (name, method, params, more) => attempt(name, gateway, {
    method: 'POST',
    headers: { ...headers, ...more },
    body: JSON.stringify({ jsonrpc: '2.0', ...(method.startsWith('notifications/') ? {} : { id: ++id }), method, params }),
  });

  const initialize = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'page', version: '1' } };
  await post('anonymous', 'initialize', initialize);
  // what every page may read
  await attempt('metadata', new URL(`/.well-known/oauth-protected-resource${new URL(gateway).pathname}`, gateway), {
    headers: { 'MCP-Protocol-Version': '2025-11-25' },
  });
  const authorized = { Authorization: `Bearer ${token}` };
  const { headers: answered } = await post('initialize', 'initialize', initialize, authorized);
  const session = {
    ...authorized,
    'MCP-Protocol-Version': '2025-11-25',
    'Mcp-Session-Id': answered?.['Mcp-Session-Id'] ?? 'none',
  };
  await post('initialized', 'notifications/initialized', undefined, session);
  await post('call', 'tools/call', { name: 'get_me' }, session);
  // requests with every header that the transport knows, and one that a tool defines
  await post('headers', 'tools/call', { name: 'get_me' }, {
    ...session, 'Mcp-Method': 'tools/call', 'Mcp-Name': 'get_me', 'Mcp-Param-Region': 'eu',
  });
  await attempt('resume', gateway, { headers: { ...session, 'Mcp-Session-Id': 'unknown', 'Last-Event-ID': '1' } });
  await post('refused', 'tools/call', { name: 'delete_repo', arguments: { repo: 'acme/api' } }, session);
  await post('foreign header', 'tools/call', { name: 'get_me' }, { ...session, 'X-Other': 'x' });
  // what a page may send to any site without asking first, and get no answer
  await attempt('simple', gateway, {
    method: 'POST',
    mode: 'no-cors',
    headers: { 'Content-Type': 'text/plain' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'get_me' } }),
  });
  await attempt('end', gateway, { method: 'DELETE', headers: session });
  return seen;
}

const seen = await withTab(async (tab) => {
  await tab.goto(page);
  return await tab.evaluate(use, { gateway, token: process.env.TOKEN });
});
console.log(`seen ${JSON.stringify(seen)}`);
