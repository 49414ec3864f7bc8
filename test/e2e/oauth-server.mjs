// An OAuth server that people log in to, made with oidc-provider: discovery, dynamic registration (RFC 7591), the
// authorization code grant with PKCE, refresh tokens, and access tokens that are JWTs (RFC 9068) for the resource that
// the client asked for (RFC 8707). The pages are those that oidc-provider has for development: anybody may log in under
// any name, and says yes to what the client wants.
//
//     PORT=0 node oauth-server.mjs
//
// Beside what oidc-provider serves there is:
//
//     POST /test/lifetime  1                  for how many seconds access tokens are valid from now on
//     POST /test/sign      {"header":{},      signs this with the server's key, whatever it is
//                           "claims":{}}
//     GET  /test/requests  ["GET /auth?..."]  what has been asked for
import { generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import Provider from 'oidc-provider';

const alg = 'ES256';
const kid = 'signing';
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const resourceScopes = ['mcp:use', 'repo:read', 'repo:write'];
let lifetime = 3600;

// Signs as ES256 does.
function signed({ header, claims }) {
  const input = [{ alg, kid, ...header }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}

const configuration = {
  clients: [
    {
      // gets tokens that are bound to its certificate (RFC 8705)
      client_id: 'machine',
      client_secret: 'secret',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      tls_client_certificate_bound_access_tokens: true,
    },
  ],
  clientDefaults: { id_token_signed_response_alg: alg },
  cookies: { keys: ['e2e'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      // as from a proxy in front that ends TLS
      getCertificate: (ctx) => decodeURIComponent(ctx.get('X-Client-Cert')) || undefined,
    },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, audience) => ({
        audience,
        scope: resourceScopes.join(' '),
        accessTokenFormat: 'jwt',
        accessTokenTTL: lifetime,
        jwt: { sign: { alg } },
      }),
    },
  },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' }] },
  scopes: ['openid', 'offline_access', ...resourceScopes],
};

function createProvider(issuer) {
  const provider = new Provider(issuer, configuration);
  provider.on('server_error', (ctx, error) => console.error(error));
  provider.use(async (ctx, next) => {
    await next();
    const client = ctx.oidc?.route === 'registration' && ctx.oidc.entities.Client;
    if (client) {
      // Clients register with the scopes they know of then. This server lets them ask for more later.
      await provider.Client.adapter.upsert(client.clientId, { ...client.metadata(), scope: undefined });
    }
  });
  return provider.callback();
}

let provider;
const requests = [];

const server = createServer(async (request, response) => {
  const asked = `${request.method} ${request.url}`;
  switch (asked) {
    case 'POST /test/lifetime':
      lifetime = await json(request);
      response.end();
      break;
    case 'POST /test/sign':
      response.end(signed(await json(request)));
      break;
    case 'GET /test/requests':
      response.end(JSON.stringify(requests));
      break;
    default:
      requests.push(asked);
      provider(request, response);
  }
});

server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provider = createProvider(issuer);
  console.log(`ready at ${issuer}`);
});
