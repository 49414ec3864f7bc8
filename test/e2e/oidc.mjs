// An OAuth server, made with oidc-provider: discovery, keys, and access tokens that are JWTs (RFC 9068) for any resource
// (RFC 8707). Its clients show who they are with a secret (the client credentials grant); each is named after the
// algorithm that its tokens are signed with. Nobody logs in here.
//
//     PORT=0 node oidc.mjs
//
// ISSUER makes it say that it is another server. Beside what oidc-provider serves there is:
//
//     POST /test/keys      [{"kid":"a","alg":"RS256"}]    publishes these keys and no others; the first one of an
//                                                         algorithm signs; a key that has been there stays the same
//     GET  /test/requests  {"/jwks":1}                    how often each path has been asked for
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import Provider from 'oidc-provider';

const generate = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

const keys = new Map();

function key({ kid, alg }) {
  const name = `${alg} ${kid}`;
  if (!keys.has(name)) {
    keys.set(name, { ...generate[alg]().privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' });
  }
  return keys.get(name);
}

const clients = Object.keys(generate).map((alg) => ({
  client_id: alg,
  client_secret: 'secret',
  grant_types: ['client_credentials'],
  id_token_signed_response_alg: alg,
  redirect_uris: [],
  response_types: [],
}));

function createProvider(issuer, published) {
  const provider = new Provider(issuer, {
    clients,
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, audience, { clientId: alg }) => ({
          audience,
          scope: '',
          accessTokenFormat: 'jwt',
          accessTokenTTL: 3600,
          jwt: { sign: { alg } },
        }),
      },
    },
    jwks: { keys: published.map(key) },
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  return provider.callback();
}

let issuer;
let provider;
const requests = {};

const server = createServer(async (request, response) => {
  switch (`${request.method} ${request.url}`) {
    case 'POST /test/keys':
      provider = createProvider(issuer, await json(request));
      response.end();
      break;
    case 'GET /test/requests':
      response.end(JSON.stringify(requests));
      break;
    default:
      requests[request.url] = (requests[request.url] ?? 0) + 1;
      provider(request, response);
  }
});

server.listen(Number(process.env.PORT), '127.0.0.1', () => {
  const address = `http://127.0.0.1:${server.address().port}`;
  issuer = process.env.ISSUER ?? address;
  provider = createProvider(issuer, [{ kid: 'first', alg: 'RS256' }]);
  console.log(`ready at ${address}`);
});
