// A client made with the TypeScript SDK that has to log in. All it knows is the URL of a server. Calls tools in turn:
//
//     node oauth-client.mjs http://127.0.0.1:8080/mcp get_me delete_repo expire get_me
//
// `expire` is no tool: from there on the client has an access token that has run out, and a refresh token.
// It prints `open 1 <url>` when somebody has to open a page in a browser, which leads back to this program, `open 2`
// the next time, and when all is done `seen` and what it has seen, as JSON.
import { createServer } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { refreshAuthorization, UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [url, ...steps] = process.argv.slice(2);
const grants = (process.env.GRANTS ?? 'authorization_code refresh_token').split(' ');
const seen = { requests: [], answers: [], sessions: [] };

// Notes which requests were made: method, URL and status.
async function notingFetch(address, init) {
  const response = await fetch(address, init);
  seen.requests.push(`${init?.method ?? 'GET'} ${response.url} ${response.status}`);
  return response;
}

// Where the browser ends up.
let arrived;
const callback = createServer((request, response) => {
  response.end('You may close this page.');
  arrived(new URL(request.url, 'http://127.0.0.1').searchParams);
});
await new Promise((resolve) => callback.listen(0, '127.0.0.1', resolve));
const redirectUrl = `http://127.0.0.1:${callback.address().port}/callback`;

// What the client remembers.
const memory = {};
let state = 0;
let redirected;

const provider = {
  redirectUrl,
  clientMetadata: {
    application_type: 'native',
    client_name: 'e2e',
    grant_types: grants,
    redirect_uris: [redirectUrl],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  },
  state: () => `state ${++state}`,
  clientInformation: () => memory.client,
  saveClientInformation: (client) => (memory.client = client),
  tokens: () => memory.tokens,
  saveTokens: (tokens) => (memory.tokens = tokens),
  codeVerifier: () => memory.verifier,
  saveCodeVerifier: (verifier) => (memory.verifier = verifier),
  redirectToAuthorization: (page) => {
    redirected = new Promise((resolve) => (arrived = resolve));
    console.log(`open ${state} ${page}`);
  },
};

function newTransport() {
  return new StreamableHTTPClientTransport(new URL(url), { authProvider: provider, fetch: notingFetch });
}

let transport;
let client;

// Does something for which somebody may have to log in, and then does it once more.
async function loggingIn(attempt) {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) {
      throw error;
    }
    const answer = await redirected;
    if (answer.get('state') !== `state ${state}` || !answer.has('code')) {
      throw new Error(`the browser came back with ${answer}`);
    }
    await transport.finishAuth(answer.get('code'));
    return await attempt();
  }
}

async function connect() {
  transport = newTransport();
  client = new Client({ name: 'e2e', version: '1' });
  await client.connect(transport);
}

// Exchanges the refresh token for an access token that is valid for a second, and waits for its end.
async function expire() {
  const { issuer, refresh_token: refreshToken } = memory.tokens;
  const metadata = await (await fetch(new URL('/.well-known/oauth-authorization-server', issuer))).json();
  const setLifetime = (seconds) => fetch(new URL('/test/lifetime', issuer), { method: 'POST', body: seconds });
  await setLifetime('1');
  const tokens = await refreshAuthorization(issuer, {
    metadata, clientInformation: memory.client, refreshToken, resource: new URL(url),
  });
  await setLifetime('3600');
  memory.tokens = { ...tokens, issuer };
  const { exp } = JSON.parse(Buffer.from(tokens.access_token.split('.')[1], 'base64url'));
  while (Date.now() < exp * 1000) {
    await setTimeout(exp * 1000 - Date.now());
  }
}

const calls = { get_me: {}, delete_repo: { repo: 'acme/api' }, create_repo: { repo: 'acme/new' } };

try {
  await loggingIn(connect);
  for (const step of steps) {
    if (step === 'expire') {
      await expire();
      continue;
    }
    const { content } = await loggingIn(() => client.callTool({ name: step, arguments: calls[step] }));
    seen.answers.push(content[0].text);
    seen.sessions.push(transport.sessionId ?? '');
  }
  await client.close();
} catch (error) {
  seen.failure = String(error);
}
seen.token = memory.tokens?.access_token;
callback.close();
console.log(`seen ${JSON.stringify(seen)}`);
